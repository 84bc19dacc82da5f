"""Routes of accounts."""

from django.urls import path

from monolith.accounts import pages, session, views

urlpatterns = [
    path("sign-in/", pages.sign_in_page, name="sign-in"),
    path("sign-out/", pages.sign_out, name="sign-out"),
    path("register/", pages.register_page, name="register"),
    path("api/session", session.Session.as_view()),
    path("api/auth/register", views.Register.as_view()),
    path("api/auth/token", views.Token.as_view()),
    path("api/auth/token/refresh", views.Refresh.as_view()),
    path("api/auth/sign-out", views.SignOut.as_view()),
    path("api/auth/me", views.Me.as_view()),
    path("api/auth/password", views.Password.as_view()),
]
