"""Paths of /api/v1; those of the operators stand in webapp/operations/urls.py."""

from __future__ import annotations

from django.urls import path

from webapp.api.native import export, painted, views

urlpatterns = [
    path("klines", views.KlinesView.as_view()),
    path("symbols", views.SymbolsView.as_view()),
    path("gaps", views.GapsView.as_view()),
    path("minutes", views.MinutesView.as_view()),
    path("completeness", views.CompletenessView.as_view()),
    path("audit", views.AuditView.as_view()),
    path("revisions", views.RevisionsView.as_view()),
    path("checkpoints", views.CheckpointsView.as_view()),
    path("painted", painted.PaintedView.as_view()),
    path("export", export.ExportView.as_view()),
    path("export/manifests/<str:export_id>", export.ManifestView.as_view()),
]
