# Two images: `airflow`, for every service of docker-compose.yml (SeaweedFS comes in a wheel), and `host`, a server to
# probe in the demo.
#
# Why python:slim and not apache/airflow: the official image has eighty providers of its own versions, half of which our
# lock would replace. Here the versions are those of requirements.lock, the ones that the tests ran with, and no others.

FROM python:3.12-slim-bookworm AS airflow

# Group 0 may write what the user may, so that any AIRFLOW_UID works, as in the official image.
RUN useradd --uid 50000 --gid 0 --create-home --home-dir /home/airflow airflow \
    && mkdir -p /opt/airflow/logs /opt/airflow/state /data \
    && chown -R 50000:0 /opt/airflow /data /home/airflow \
    && chmod -R g=u /opt/airflow /data /home/airflow

# Every file is checked against its hash; nothing is resolved anew.
COPY requirements.lock include/compose/postgres.lock /tmp/locks/
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes --only-binary psycopg2-binary,asyncpg \
    -r /tmp/locks/requirements.lock -r /tmp/locks/postgres.lock

# HOME and USER, because an AIRFLOW_UID of the machine has no entry in /etc/passwd here.
ENV AIRFLOW_HOME=/opt/airflow \
    HOME=/home/airflow \
    USER=airflow \
    PYTHONPATH=/opt/airflow:/opt/airflow/include/airflow \
    PYTHONUNBUFFERED=1

WORKDIR /opt/airflow
COPY --chown=50000:0 dags dags
COPY --chown=50000:0 include include
COPY --chown=50000:0 pingmesh_tasks pingmesh_tasks
COPY --chown=50000:0 plugins plugins
COPY --chown=50000:0 spark_jobs spark_jobs

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
