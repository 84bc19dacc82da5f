# The example's monolith: web, tasks, messages, and its one-shot commands.
FROM python:3.11.13-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN useradd --system --uid 10001 --no-create-home app \
    && install -d -o app -g app /var/lib/shop /var/lib/shop-mail
COPY requirements/examples.txt requirements/examples.txt
RUN pip install --no-cache-dir --require-hashes -r requirements/examples.txt
COPY strangler_proxy strangler_proxy
COPY monolith monolith

USER 10001
CMD ["gunicorn", "monolith.config.wsgi:application", "--bind", "0.0.0.0:8001", "--workers", "2", "--threads", "8", "--no-control-socket"]
