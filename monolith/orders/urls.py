"""Routes of orders."""

from django.urls import path

from monolith.orders import pages, views

urlpatterns = [
    path("cart/", pages.cart_page, name="cart"),
    path("checkout/", pages.checkout_page, name="checkout"),
    path("orders/<int:order_id>/", pages.order_page, name="order"),
    path("orders/<int:order_id>/pay/", pages.pay_order, name="pay"),
    path("orders/<int:order_id>/refund/", pages.refund_order, name="refund"),
    path("account/", pages.account_page, name="account"),
    path("api/orders", views.Orders.as_view()),
    path("api/orders/<int:order_id>", views.OneOrder.as_view()),
    path("api/orders/<int:order_id>/pay", views.Pay.as_view()),
    path("api/orders/<int:order_id>/refund", views.Refund.as_view()),
]
