"""Routes of the capability."""

from django.urls import path

from monolith.payments import views

urlpatterns = [
    path("api/payments/intents", views.Intents.as_view()),
    path("api/payments/intents/<str:intent_id>", views.OneIntent.as_view()),
    path("api/payments/intents/<str:intent_id>/capture", views.Capture.as_view()),
    path("api/payments/intents/<str:intent_id>/refunds", views.Refunds.as_view()),
    path("api/payments/webhooks/card-processor", views.Webhook.as_view()),
    path("api/payments/settlements", views.Settlements.as_view()),
]
