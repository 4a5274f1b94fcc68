"""Paths of the project, below wherever it is mounted."""

from django.urls import path
from greetings import views

urlpatterns = [
    path("", views.write, name="write"),
    path("answer/", views.answer, name="answer"),
]
