"""Paths of the operators' own pages; those of their API stand in webapp/api/native/urls.py."""

from __future__ import annotations

from django.urls import path

from webapp.operations import permission

urlpatterns = [
    path("operator/login", permission.login, name="operator-login"),
    path("operator/logout", permission.logout, name="operator-logout"),
]
