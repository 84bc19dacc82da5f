"""What an oscar shop does, in its own interpreter: `fill` it, or `write` to it through its models until SIGTERM.

Writes go to the monolith's database until that refuses them, then to the service's, and so on. Every attempt and
everything that was committed is a line of JSON; the checker of the test reads nothing else.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
import uuid
from decimal import Decimal
from pathlib import Path

import django
from django.db import DatabaseError, connections, transaction
from django.utils import timezone

MONOLITH, SERVICE = "default", "service"
OTHER = {MONOLITH: SERVICE, SERVICE: MONOLITH}

FILL = """
INSERT INTO address_country (iso_3166_1_a2, iso_3166_1_a3, iso_3166_1_numeric, printable_name, name, display_order, is_shipping_country)
VALUES ('GB', 'GBR', '826', 'United Kingdom', 'United Kingdom', 0, true);
INSERT INTO auth_user (username, password, email, first_name, last_name, is_superuser, is_staff, is_active, date_joined)
SELECT 'u' || g, '!', 'u' || g || '@example.com', '', '', false, false, true, now() FROM generate_series(1, 500) AS g;
INSERT INTO payment_sourcetype (name, code) VALUES ('Card', 'card'), ('Voucher', 'voucher');
INSERT INTO order_shippingaddress (title, first_name, last_name, line1, line2, line3, line4, state, postcode, search_text, phone_number, notes, country_id, code)
SELECT '', 'Zoë', 'No ' || g, g || ' High Street', '', '', 'Łódź', '', 'AB1 ' || g % 99, '', '+44 20 7946 0' || g % 1000, E'a\\tb\\nc', 'GB', NULL FROM generate_series(1, {orders}) AS g;
INSERT INTO order_order (number, currency, total_incl_tax, total_excl_tax, shipping_incl_tax, shipping_excl_tax, shipping_method, shipping_code, status, guest_email, date_placed, shipping_address_id, user_id, analytics_tracked)
SELECT (100000 + g)::text, CASE WHEN g % 5 = 0 THEN 'USD' ELSE 'GBP' END, g % 997 + 0.99, g % 997, 0, 0, 'Free', 'free', CASE WHEN g % 7 = 0 THEN 'Shipped' ELSE 'Pending' END, '', now() - g * interval '1 minute', g, CASE WHEN g % 3 > 0 THEN g % 500 + 1 END, true FROM generate_series(1, {orders}) AS g;
INSERT INTO order_line (order_id, partner_name, partner_sku, partner_line_reference, partner_line_notes, title, upc, quantity, line_price_incl_tax, line_price_excl_tax, line_price_before_discounts_incl_tax, line_price_before_discounts_excl_tax, status, num_allocated, allocation_cancelled)
SELECT o.id, 'Partner', 'sku-' || l, '', repeat('note ', l), 'Product ' || l, NULL, l, 1.5 * l, 1.25 * l, 1.5 * l, 1.25 * l, 'Pending', 0, false FROM order_order AS o CROSS JOIN generate_series(1, 2) AS l;
INSERT INTO order_lineattribute (line_id, type, value) SELECT id, 'engraving', jsonb_build_object('text', title, 'size', 1.50) FROM order_line WHERE id % 4 = 0;
INSERT INTO order_lineprice (order_id, line_id, quantity, price_incl_tax, price_excl_tax, shipping_incl_tax, shipping_excl_tax)
SELECT order_id, id, quantity, 1.5, 1.25, 0, 0 FROM order_line;
INSERT INTO order_orderdiscount (order_id, category, offer_id, offer_name, voucher_code, frequency, amount, message)
SELECT id, 'Basket', id % 9, 'Spring', '', 1, 0.5, '' FROM order_order WHERE id % 10 = 0;
INSERT INTO order_ordernote (order_id, user_id, note_type, message, date_created, date_updated)
SELECT id, user_id, 'Info', 'left at the door', now(), now() FROM order_order WHERE id % 6 = 0;
INSERT INTO payment_source (order_id, source_type_id, currency, amount_allocated, amount_debited, amount_refunded, reference, label)
SELECT id, 1, currency, total_incl_tax, total_incl_tax, 0, 'src-' || number, 'XXXX-4242' FROM order_order;
INSERT INTO payment_transaction (source_id, txn_type, amount, reference, status, date_created)
SELECT s.id, t.kind, s.amount_allocated, t.kind || '-' || s.id, 'ok', now() FROM payment_source AS s CROSS JOIN (VALUES ('Authorise'), ('Debit')) AS t (kind);
INSERT INTO payment_bankcard (user_id, card_type, name, number, expiry_date, partner_reference)
SELECT id, 'Visa', 'Zoë', 'XXXX-XXXX-XXXX-4242', date '2030-01-31', md5(id::text) FROM auth_user;
ANALYZE;
"""  # noqa: E501 -- columns of oscar's tables


class Shop:
    """A shop's writes, one transaction each. `known` are numbers of orders that were placed here."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.known: list[str] = []
        self.name = f"W{seed}"
        self.count = 0

    def next(self) -> tuple[str, dict[str, str]]:
        """What to do, and with which number, reference and amount."""
        self.count += 1
        kind = self.chance.choices(("place", "debit", "refund", "status", "note", "cancel"), (4, 5, 2, 2, 2, 1))[0]
        if not self.known:
            kind = "place"
        number = f"{self.name}-{self.count}" if kind == "place" else self.chance.choice(self.known)
        amount = f"{self.chance.randrange(1, 90_000) / 100:.2f}"
        return kind, {"number": number, "reference": str(uuid.uuid4()), "amount": amount}

    def write(self, using: str, kind: str, given: dict[str, str]) -> None:
        """Do it, in one transaction."""
        with transaction.atomic(using=using):
            getattr(self, kind)(using, Decimal(given["amount"]), **{k: given[k] for k in ("number", "reference")})
        if kind == "place":
            self.known.append(given["number"])
        if kind == "cancel":
            self.known.remove(given["number"])

    def place(self, using: str, amount: Decimal, number: str, reference: str) -> None:
        """An order of two lines, paid by card."""
        from oscar.core.loading import get_model  # type: ignore[import-not-found]

        models = {name: get_model("order", name) for name in ("Order", "Line", "LinePrice", "ShippingAddress")}
        address = models["ShippingAddress"](first_name="Zoë", last_name=number, line1="1 High Street", country_id="GB")
        address.save(using=using)
        order = models["Order"](
            number=number, currency="GBP", total_incl_tax=amount, total_excl_tax=amount, shipping_address=address,
            status="Pending", guest_email=f"{number}@example.com", date_placed=timezone.now(),
        )  # fmt: skip
        order.save(using=using)
        prices = ("incl_tax", "excl_tax", "before_discounts_incl_tax", "before_discounts_excl_tax")
        for position in (1, 2):
            line = models["Line"](
                order=order, partner_sku=f"sku-{position}", title="Product", quantity=position, num_allocated=0,
                **{f"line_price_{name}": amount / 2 for name in prices},
            )  # fmt: skip
            line.save(using=using)
            models["LinePrice"](
                order=order, line=line, quantity=position, price_incl_tax=amount / 2, price_excl_tax=amount / 2
            ).save(using=using)
        source = get_model("payment", "Source")(order=order, source_type_id=1, currency="GBP", reference=number)
        source.save(using=using)
        source.allocate(amount, reference=reference, status="ok")

    def debit(self, using: str, amount: Decimal, number: str, reference: str) -> None:
        """Money taken."""
        self._source(using, number).debit(amount, reference=reference, status="ok")

    def refund(self, using: str, amount: Decimal, number: str, reference: str) -> None:
        """Money given back."""
        self._source(using, number).refund(amount, reference=reference, status="ok")

    def status(self, using: str, amount: Decimal, number: str, reference: str) -> None:
        """The next status, by a bulk update."""
        from oscar.core.loading import get_model

        orders = get_model("order", "Order").objects.using(using).filter(number=number)
        orders.update(status="Shipped")
        get_model("order", "OrderStatusChange").objects.using(using).create(
            order_id=orders.get().pk, old_status="Pending", new_status="Shipped"
        )

    def note(self, using: str, amount: Decimal, number: str, reference: str) -> None:
        """A note that replaces those before it."""
        from oscar.core.loading import get_model

        notes = get_model("order", "OrderNote").objects.using(using)
        notes.filter(order__number=number).delete()
        notes.create(order=get_model("order", "Order").objects.using(using).get(number=number), message=reference)

    def cancel(self, using: str, amount: Decimal, number: str, reference: str) -> None:
        """The order goes with all that is its own; outside the monolith it stays, for other tables are not there."""
        from oscar.core.loading import get_model

        order = get_model("order", "Order").objects.using(using).get(number=number)
        if using == MONOLITH:
            order.delete()
        else:
            source = self._source(using, number)
            source.transactions.all().delete()
            models = [get_model("order", name) for name in ("LinePrice", "Line", "OrderNote", "OrderStatusChange")]
            for each in models:
                each.objects.using(using).filter(order=order)._raw_delete(using)
            type(source).objects.using(using).filter(pk=source.pk)._raw_delete(using)
            type(order).objects.using(using).filter(pk=order.pk)._raw_delete(using)

    def _source(self, using: str, number: str):  # type: ignore[no-untyped-def]  # oscar's models have no types
        from oscar.core.loading import get_model

        sources = get_model("payment", "Source").objects.using(using).select_for_update(of=("self",))
        return sources.get(order__number=number)


def write(path: Path, seed: int, pause_s: float) -> None:
    """Write until SIGTERM."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    shop, using = Shop(seed), MONOLITH
    with path.open("a", buffering=1) as history:
        while not stopped:
            kind, given = shop.next()
            while not stopped:
                line = {"side": using, "kind": kind, **given}
                try:
                    shop.write(using, kind, given)
                except DatabaseError as error:
                    if getattr(error.__cause__, "sqlstate", "") != "MF001":
                        raise
                    history.write(json.dumps({**line, "outcome": "fenced"}) + "\n")
                    using = OTHER[using]
                    time.sleep(0.01)
                else:
                    history.write(json.dumps({**line, "outcome": "done", "at": time.monotonic()}) + "\n")
                    break
            time.sleep(pause_s)


def main(words: list[str]) -> None:
    """`fill ORDERS` or `write FILE SEED PAUSE`."""
    django.setup()
    if words[0] == "fill":
        with connections[MONOLITH].cursor() as cursor:
            cursor.execute(FILL.format(orders=int(words[1])))
    else:
        write(Path(words[1]), int(words[2]), float(words[3]))


if __name__ == "__main__":
    main(sys.argv[1:])
