# The example's services, auth and payments; and in a target of its own the card processor that stands in for a real one.
FROM python:3.11.13-slim-bookworm AS services

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN useradd --system --uid 10001 --no-create-home app \
    && install -d -o app -g app /var/lib/shop
COPY requirements/examples.txt requirements/examples.txt
RUN pip install --no-cache-dir --require-hashes -r requirements/examples.txt
COPY strangler_proxy strangler_proxy
COPY extracted extracted

USER 10001
CMD ["python", "-m", "extracted.auth", "serve", "--host", "0.0.0.0", "--port", "8002"]

FROM services AS processor
COPY tests/fakes tests/fakes
CMD ["python", "-m", "tests.fakes.card_processor", "--host", "0.0.0.0", "--port", "8004"]
