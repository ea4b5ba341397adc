// Numbers as the console shows them; web/console_text.py says them the same way.
export const format = {
  count(value) {
    if (value < 1e4) return value.toFixed(0);
    if (value < 1e6) return (value / 1e3).toFixed(1) + "k";
    return value < 1e9 ? (value / 1e6).toFixed(1) + "M" : (value / 1e9).toFixed(1) + "G";
  },
  rate(value) {
    if (value > 0 && value < 10) return value >= 0.05 ? value.toFixed(1) : "0";
    return format.count(value);
  },
  whole(value) {
    return value.toLocaleString("en");
  },
  size(value) {
    for (const unit of ["B", "kB", "MB"]) {
      if (value < 1000) return value.toFixed(0) + " " + unit;
      value /= 1000;
    }
    return value.toFixed(1) + " GB";
  },
  percent(value) {
    return value >= 0.0005 && value < 0.0995 ? (value * 100).toFixed(1) + " %" : (value * 100).toFixed(0) + " %";
  },
  micros(value) {
    if (value === null) return "-";
    if (value < 1000) return (value < 10 ? value.toFixed(1) : value.toFixed(0)) + " µs";
    return (value / 1000).toFixed(1) + " ms";
  },
  age(value) {
    if (value >= 0.05 && value < 10) return value.toFixed(1) + " s";
    return value >= 10 ? format.duration(value) : "0 s";
  },
  duration(value) {
    const [days, hours, minutes, seconds] = [value / 86400, (value / 3600) % 24, (value / 60) % 60, value % 60].map(Math.floor);
    if (days) return `${days}d ${hours}h`;
    if (hours) return `${hours}h ${String(minutes).padStart(2, "0")}m`;
    return minutes ? `${minutes}m ${String(seconds).padStart(2, "0")}s` : `${seconds}s`;
  },
  text: String,
};
