"""A Django project in one file: a page with a table of fifty rows, drawn by a template, behind the usual middleware.

No database: what is compared is the way to the application and back, at the size that real pages have.
"""

import os
import time

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.shortcuts import render
from django.urls import path

if not settings.configured:
    settings.configure(
        SECRET_KEY="only for the benchmark, which signs nothing",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        DATABASES={},
        USE_I18N=False,
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "DIRS": [os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")],
            }
        ],
    )

ROWS = [{"number": number, "name": f"Article <{number}>", "price": number * 1.25} for number in range(1, 51)]


def page(request):
    return render(request, "page.django.html", {"title": "Articles", "rows": ROWS, "version": django.get_version()})


def slow_page(request):
    """The same, kept for a while: so many requests at once reach so many workers. Says which one has answered."""
    response = page(request)
    time.sleep(0.1)
    response["X-Worker"] = str(os.getpid())
    return response


urlpatterns = [path("", page), path("slow/", slow_page)]
application = get_wsgi_application()
