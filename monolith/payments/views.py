"""The routes below /api/payments/ (flag `payments`)."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from monolith.config.api import ApiView, raw_body
from monolith.config.problem import Answer
from monolith.payments import capture, intents, refunding, schema, settlement, webhooks
from monolith.payments.asked import FLAG, Asked

KEY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, required=True, description="1 to 255 printable ASCII characters"
)
REPLAY_HEADER = "X-Strangler-Replay"


class PaymentsView(ApiView):
    """A path of the capability."""

    flag = FLAG

    def asked(self, request: Request) -> Asked:
        """The request as a value."""
        return Asked(
            user_id=request.user.pk,
            scopes=request.auth.scopes,
            key=request.headers.get("Idempotency-Key"),
            body=raw_body(request),
            content_type=request.headers.get("Content-Type", ""),
            resume=request.headers.get(REPLAY_HEADER) == "resume",
        )


class Intents(PaymentsView):
    """A user's payments."""

    @extend_schema(request=schema.NewIntent, responses={201: schema.Intent}, parameters=[KEY])
    def post(self, request: Request) -> Answer:
        """Make one; nothing is charged yet. `order_id` needs a token with scope `orders`."""
        return intents.create(self.asked(request))

    @extend_schema(
        operation_id="payments_intents_list",
        responses={200: schema.Page},
        parameters=[OpenApiParameter("limit", int, description="1 to 100"), OpenApiParameter("after", str)],
    )
    def get(self, request: Request) -> Answer:
        """List them, newest first."""
        return intents.page(request.user.pk, request.query_params.dict())


class OneIntent(PaymentsView):
    """One payment."""

    @extend_schema(responses={200: schema.Intent})
    def get(self, request: Request, intent_id: str) -> Answer:
        """Read."""
        return intents.read(request.user.pk, intent_id)


class Capture(PaymentsView):
    """The charge of a payment."""

    @extend_schema(request=None, responses={200: schema.Intent}, parameters=[KEY])
    def post(self, request: Request, intent_id: str) -> Answer:
        """Charge the card, once per payment."""
        return capture.capture(self.asked(request), intent_id)


class Refunds(PaymentsView):
    """The refunds of a payment."""

    @extend_schema(request=schema.NewRefund, responses={201: schema.Refund}, parameters=[KEY])
    def post(self, request: Request, intent_id: str) -> Answer:
        """Give money back, whole or in part."""
        return refunding.refund(self.asked(request), intent_id)


class Webhook(PaymentsView):
    """Events of the card processor."""

    public = True

    @extend_schema(request=schema.WebhookEvent, responses={204: None}, auth=[])
    def post(self, request: Request) -> Answer:
        """Take an event; signed in `Processor-Signature`."""
        signature = request.headers.get("Processor-Signature", "")
        return webhooks.receive(signature, raw_body(request), request.headers.get("Content-Type", ""))


class Settlements(PaymentsView):
    """What days came to."""

    @extend_schema(request=schema.Day, responses={200: schema.Settlements})
    def post(self, request: Request) -> Answer:
        """Settle a day, once per currency. Needs a token with scope `settlement`."""
        return settlement.settle(self.asked(request))
