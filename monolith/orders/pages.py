"""Cart, checkout, orders and account as pages, by session. Payments are reached through their seam."""

from __future__ import annotations

from decimal import Decimal

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from monolith.catalog.api import CURRENCY
from monolith.config.problem import Problem
from monolith.orders import basket, checkout
from monolith.orders.checkout import PENDING_FIRST
from monolith.orders.models import Order
from monolith.orders.rules import LARGEST_ID, REFUNDABLE, OrderStatus
from monolith.payments import api as payments
from strangler_proxy.contrib.django.parts import commits_in_parts

NEWEST = 10


@require_http_methods(["GET", "HEAD", "POST"])
def cart_page(request: HttpRequest) -> HttpResponse:
    """What is in the cart; POST puts something in, or sets a quantity."""
    if request.method != "POST":
        return _cart(request)
    wrong = basket.change(
        request.session,
        request.POST.get("product_id", ""),
        request.POST.get("quantity", "1"),
        add=request.POST.get("action") != "set",
    )
    return _cart(request, error=wrong) if wrong else redirect("cart")


@commits_in_parts(PENDING_FIRST)
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def checkout_page(request: HttpRequest) -> HttpResponse:
    """Pay for what is in the cart: the order is committed first, then payments are called."""
    rows = basket.rows(request.session)
    if request.method != "POST" or not rows:
        return _checkout(request, rows)
    token = request.POST.get("card_token", "").strip()
    if wrong := _card_problem(token):
        return _checkout(request, rows, error=wrong)
    try:
        order = checkout.place(request.user.pk, basket.cart(rows))
    except Problem as problem:
        return _checkout(request, rows, error=problem.detail, status=problem.status)
    basket.write(request.session, {})
    return _pay(request, order, token)


@login_required
@require_safe
def order_page(request: HttpRequest, order_id: int) -> HttpResponse:
    """One order."""
    return _order(request, _find(request, order_id))


@login_required
@require_POST
def pay_order(request: HttpRequest, order_id: int) -> HttpResponse:
    """Pay a pending order, perhaps with another card."""
    order = _find(request, order_id)
    token = request.POST.get("card_token", "").strip()
    if wrong := _card_problem(token):
        return _order(request, order, error=wrong, status=400)
    return _pay(request, order, token)


@commits_in_parts(PENDING_FIRST)
@login_required
@require_POST
def refund_order(request: HttpRequest, order_id: int) -> HttpResponse:
    """Give back what is left."""
    order = _find(request, order_id)
    try:
        _, refund = checkout.refund(request.user.pk, order.pk)
    except Problem as problem:
        return _order(request, order, error=problem.detail, status=problem.status)
    messages.success(request, f"{refund['amount']} {order.currency} are on their way back to your card.")
    return redirect("order", order_id=order.pk)


@login_required
@require_safe
def account_page(request: HttpRequest) -> HttpResponse:
    """Who is signed in, their orders, and their payments: fresh, from wherever payments are."""
    orders = Order.objects.filter(user=request.user)[:NEWEST]
    paid, problem = [], ""
    try:
        paid = payments.payments_of(request.user.pk, limit=NEWEST)
    except Problem:
        problem = "Your payments cannot be shown at the moment. They are safe; please look again in a minute."
    return render(request, "shop/account.html", {"orders": orders, "payments": paid, "problem": problem})


def _pay(request: HttpRequest, order: Order, token: str) -> HttpResponse:
    try:
        checkout.pay(request.user.pk, order.pk, token)
    except Problem as problem:
        return _order(request, _find(request, order.pk), error=problem.detail, status=problem.status)
    messages.success(request, f"Thank you. Order {order.pk} is paid.")
    return redirect("order", order_id=order.pk)


def _find(request: HttpRequest, order_id: int) -> Order:
    try:
        return checkout.find(request.user.pk, min(order_id, LARGEST_ID))
    except Problem as problem:
        raise Http404 from problem


def _card_problem(token: str) -> str:
    if not token or "\x00" in token:
        return "Enter a card."
    most = payments.CARD_TOKEN_CHARACTERS
    return f"Must have at most {most} characters." if len(token) > most else ""


def _cart(request: HttpRequest, *, error: str = "") -> HttpResponse:
    rows = basket.rows(request.session)
    facts = {"rows": rows, "total": _total(rows), "currency": CURRENCY, "error": error}
    return render(request, "shop/cart.html", facts, status=400 if error else 200)


def _checkout(request: HttpRequest, rows: list[basket.Row], *, error: str = "", status: int = 400) -> HttpResponse:
    facts = {"rows": rows, "total": _total(rows), "currency": CURRENCY, "error": error}
    return render(request, "shop/checkout.html", facts, status=status if error else 200)


def _order(request: HttpRequest, order: Order, *, error: str = "", status: int = 200) -> HttpResponse:
    facts = {
        "order": order,
        "payable": order.status == OrderStatus.PENDING,
        "refundable": order.status in REFUNDABLE,
        "error": error,
    }
    response = render(request, "shop/order.html", facts, status=status)
    if status == 503:
        response.headers["Retry-After"] = "2"
    return response


def _total(rows: list[basket.Row]) -> Decimal:
    return sum((row.total for row in rows), Decimal(0))
