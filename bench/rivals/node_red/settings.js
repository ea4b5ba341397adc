// The ports come from the bench; all else is Node-RED's default, but for what would reach out of this machine.
module.exports = {
  uiHost: "127.0.0.1",
  uiPort: Number(process.env.BENCH_PORT),
  flowFile: "flows.json",
  credentialSecret: false,
  httpAdminRoot: false,
  telemetry: { enabled: false },
  logging: { console: { level: "info", metrics: false, audit: false } },
};
