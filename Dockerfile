# Two images: `airflow`, for every service of docker-compose.yml (SeaweedFS comes in a wheel), and `host`, a server to
# probe in the demo. The stage `wheel` builds this package for the first.
#
# Why python:slim and not apache/airflow: the official image has eighty providers of its own versions, half of which our
# lock would replace. Here the versions are those of the locks, which the tests ran with, and no test or bench tools.

FROM python:3.12-slim-bookworm AS wheel

COPY requirements-build.lock /tmp/locks/
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r /tmp/locks/requirements-build.lock
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY dags dags
COPY include include
COPY pingmesh_tasks pingmesh_tasks
COPY plugins plugins
COPY spark_jobs spark_jobs
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist .


FROM python:3.12-slim-bookworm AS airflow

# Group 0 may write what the user may, so that any AIRFLOW_UID works, as in the official image.
RUN useradd --uid 50000 --gid 0 --create-home --home-dir /home/airflow airflow \
    && mkdir -p /opt/airflow/logs /opt/airflow/state /data \
    && chown -R 50000:0 /opt/airflow /data /home/airflow \
    && chmod -R g=u /opt/airflow /data /home/airflow

# Every file is checked against its hash; nothing is resolved anew.
COPY requirements-image.lock /tmp/locks/
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes --only-binary psycopg2-binary,asyncpg \
    -r /tmp/locks/requirements-image.lock

COPY --from=wheel /dist /tmp/dist
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-index /tmp/dist/*.whl

# HOME and USER, because an AIRFLOW_UID of the machine has no entry in /etc/passwd here.
ENV AIRFLOW_HOME=/opt/airflow \
    HOME=/home/airflow \
    USER=airflow \
    PYTHONUNBUFFERED=1

WORKDIR /opt/airflow
RUN ln -s "$(pingmesh dags-folder)" dags && ln -s "$(pingmesh preload-folder)" config
COPY --chown=50000:0 include/compose include/compose
COPY --chown=50000:0 include/inventories include/inventories
COPY --chown=50000:0 include/rules include/rules

USER 50000:0
ENTRYPOINT ["airflow"]


FROM debian:bookworm-slim AS host

RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-server python3 \
    && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_* \
    && useradd --create-home --shell /bin/sh pingmesh \
    && mkdir -p /run/sshd /srv/host-keys
COPY include/compose/host.sh /usr/local/bin/pingmesh-host
ENTRYPOINT ["sh", "/usr/local/bin/pingmesh-host"]
