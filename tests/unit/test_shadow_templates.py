"""Path templates: what varies folds, frequent literals stay, memory is bounded."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strangler_proxy.core.strata import is_signed_in
from strangler_proxy.core.templates import Templates, shape

WORDS = ["red", "blue", "shirt", "shoe", "hat", "lamp", "desk", "chair", "cup", "book", "pen", "bag"]


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/", "/"),
        ("/orders/42", "/orders/{id}"),
        ("/orders/42/", "/orders/{id}/"),
        ("/orders/ORD-20881/items/-1", "/orders/{id}/items/{id}"),
        ("/u/2F1E9A3C-0b1d-4e5f-8a9b-000102030405", "/u/{uuid}"),
        ("/d/2026-05-01", "/d/{date}"),
        ("/blob/9f86d081884c7d65", "/blob/{hash}"),
        ("/reset/Zk3-x9_QwErTy12aBcDeFgH", "/reset/{token}"),
        ("/by/ana@example.org/x", "/by/{email}/x"),
        ("/api/v2/search", "/api/v2/search"),
        ("/added", "/added"),
        ("/a/" + "x" * 200, "/a/{slug}"),
    ],
)
def test_a_segment_that_looks_like_a_value_folds_at_once(path: str, template: str) -> None:
    assert Templates().learn(path) == template


def test_slugs_fold_and_frequent_literals_stay() -> None:
    chance, templates = random.Random(5), Templates()
    for _ in range(2_000):
        if chance.random() < 0.2:
            templates.learn("/products/search")
        else:
            slug = "-".join(chance.sample(WORDS, 2))
            templates.learn(f"/products/{slug}/reviews")
    assert templates.fold("/products/red-shirt/reviews") == "/products/{slug}/reviews"
    assert templates.fold("/products/never-seen/reviews") == "/products/{slug}/reviews"
    assert templates.fold("/products/search") == "/products/search"


def test_very_many_words_fold_and_the_frequent_one_stays() -> None:
    templates = Templates()
    for turn in range(3_000):
        name = "".join(chr(97 + (turn // 26**place) % 26) for place in range(3)) + "ly"
        templates.learn(f"/people/{name}")
        if turn % 3 == 0:
            templates.learn("/people/me")
    assert templates.fold("/people/abcly") == "/people/{slug}"
    assert templates.fold("/people/me") == "/people/me"
    assert len(templates) < 50


def test_the_pages_of_a_large_site_stay_apart_though_none_is_frequent() -> None:
    chance, templates = random.Random(7), Templates()
    pages = [f"/{first}{second}" for first in WORDS[:8] for second in WORDS[:8]]
    for page in pages:  # a crawler comes first
        templates.learn(f"{page}/17")
    for _ in range(5_000):
        templates.learn(f"{chance.choice(pages)}/{chance.randrange(1_000)}")
    assert {templates.fold(f"{page}/42") for page in pages} == {f"{page}/{{id}}" for page in pages}


def test_pages_with_dashes_in_their_names_stay_apart_when_they_come_again() -> None:
    chance, templates = random.Random(7), Templates()
    pages = [f"/{word}-page" for word in WORDS] + ["/sign-in", "/sign-out", "/my-orders", "/gift-cards"]
    for _ in range(500):
        templates.learn(chance.choice(pages))
    assert {templates.fold(page) for page in pages} == set(pages)


def test_a_template_given_earlier_is_folded_again() -> None:
    templates = Templates()
    early = templates.learn("/tags/blue-hat")
    assert early == "/tags/blue-hat"
    for number in range(20):
        templates.learn(f"/tags/{WORDS[number % 12]}-{WORDS[number // 12]}-x")
    assert templates.fold(early) == templates.fold("/tags/{slug}") == "/tags/{slug}"


@given(st.lists(st.lists(st.text(st.sampled_from("ab1-_{}%"), max_size=20), max_size=20), max_size=60))
@settings(max_examples=60, deadline=None)
def test_memory_is_bounded_and_folding_is_idempotent(paths: list[list[str]]) -> None:
    templates = Templates(limit=40)
    for segments in paths:
        templates.learn("/" + "/".join(segments))
    for segments in paths:
        once = templates.fold("/" + "/".join(segments))
        assert templates.fold(once) == once
        assert once.count("/") <= 13


def test_a_flood_of_unlike_paths_stays_within_the_limit() -> None:
    chance, templates = random.Random(1), Templates(limit=300)
    for _ in range(2_000):
        templates.learn("/" + "/".join(chance.choice(["7", *WORDS[:9]]) for _ in range(6)))
    assert len(templates) <= 301
    assert templates.crowded
    assert len({templates.fold("/" + "/".join(chance.sample(WORDS, 6))) for _ in range(500)}) < 300


def test_shapes_and_sessions() -> None:
    assert [shape(each) for each in ("search", "v1", "sign-in", "é")] == [None, None, None, "{slug}"]
    assert is_signed_in([("authorization", "Bearer x")])
    assert not is_signed_in([("cookie", "sessionid=; a=b")])


def test_visits_that_come_together_count_as_many() -> None:
    together, apart = Templates(), Templates()
    words = [f"word{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(150)]
    together.learn("/a/search", visits=200)
    for _ in range(200):
        apart.learn("/a/search")
    for word in words:
        assert together.learn(f"/a/{word}") == apart.learn(f"/a/{word}")
    assert together.fold("/a/search") == "/a/search"
    assert together.fold(f"/a/{words[0]}") == "/a/{slug}"
