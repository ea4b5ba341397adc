# The first stage has pip and the sources; the second has the result and runs as nobody in particular.
FROM python:3.11-slim AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/millstream
COPY requirements.lock ./
RUN /opt/millstream/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml LICENSE millstream.py ./
COPY cli cli
COPY engine engine
COPY operators operators
COPY sinks sinks
COPY sources sources
COPY web web
RUN /opt/millstream/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home millstream && install -d -o millstream -g millstream -m 0700 /data
COPY --from=build /opt/millstream /opt/millstream
WORKDIR /app
COPY flows flows
ENV PATH=/opt/millstream/bin:$PATH PYTHONUNBUFFERED=1 MILLSTREAM_HOST=0.0.0.0 MILLSTREAM_DATA=/data
USER 10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["millstream"]
CMD ["run", "flows/car_inspection"]
