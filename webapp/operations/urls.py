"""Paths of the operators: their own pages, and their part of /api/v1."""

from __future__ import annotations

from django.urls import path

from webapp.operations import actions, figures, permission, retention

urlpatterns = [
    path("operator/login", permission.login, name="operator-login"),
    path("operator/logout", permission.logout, name="operator-logout"),
    path("api/v1/status", figures.StatusView.as_view()),
    path("api/v1/operator", figures.OperatorFiguresView.as_view()),
    path("api/v1/operator/history", figures.OperatorHistoryView.as_view()),
    path("api/v1/operator/actions", actions.ActionsView.as_view()),
    path("api/v1/operator/actions/<str:action>", actions.PerformView.as_view()),
    path("api/v1/operator/actions/<str:action>/preview", actions.PreviewView.as_view()),
    path("api/v1/retention", retention.RetentionView.as_view()),
]
