"""Shapes of requests and answers, for the OpenAPI document only."""

from __future__ import annotations

from rest_framework import serializers

from monolith.accounts.rules import EMAIL_CHARACTERS, NAME_CHARACTERS, PASSWORD_CHARACTERS


class Name(serializers.Serializer):
    """A person's name."""

    name = serializers.CharField(max_length=NAME_CHARACTERS)


class Credentials(serializers.Serializer):
    """E-mail address and password."""

    email = serializers.EmailField(max_length=EMAIL_CHARACTERS)
    password = serializers.CharField(write_only=True)


class Registration(Name):
    """A new account."""

    email = serializers.EmailField(max_length=EMAIL_CHARACTERS)
    password = serializers.CharField(write_only=True, min_length=PASSWORD_CHARACTERS)


class PasswordChange(serializers.Serializer):
    """The current password and the next."""

    current_password = serializers.CharField(write_only=True)
    new_password = serializers.CharField(write_only=True, min_length=PASSWORD_CHARACTERS)


class RefreshToken(serializers.Serializer):
    """A refresh token."""

    refresh_token = serializers.CharField()


class User(serializers.Serializer):
    """A person with an account."""

    id = serializers.IntegerField()
    email = serializers.EmailField()
    name = serializers.CharField()
    created_at = serializers.DateTimeField()


class UserEnvelope(serializers.Serializer):
    """A user."""

    user = User()


class SessionState(serializers.Serializer):
    """Who is signed in by session (null: nobody), and the token that unsafe requests must send."""

    user = User(allow_null=True)
    csrf_token = serializers.CharField()


class AccessToken(serializers.Serializer):
    """An access token."""

    access_token = serializers.CharField()
    token_type = serializers.CharField(default="Bearer")
    expires_in = serializers.IntegerField()


class TokenPair(AccessToken):
    """What a sign-in gives."""

    refresh_token = serializers.CharField()
    user = User()
