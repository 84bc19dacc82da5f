# The toolkit: proxy, control plane and worker. The command says which: serve, control, worker, apply ...
FROM python:3.11.13-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN useradd --system --uid 10001 --no-create-home app \
    && install -d -o app -g app /var/lib/strangler
COPY requirements/examples.txt requirements/examples.txt
RUN pip install --no-cache-dir --require-hashes -r requirements/examples.txt
COPY strangler_proxy strangler_proxy
COPY migrations_plan migrations_plan

USER 10001
ENTRYPOINT ["python", "-m", "strangler_proxy.cli.main"]
CMD ["serve"]
