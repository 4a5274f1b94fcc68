"""Two pages: the answer to the form of the static start page, and a form of Django's own."""

from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from .forms import GreetingForm


# The form stands on a static page, which can't hold a CSRF token, and answering it changes nothing: no session,
# no database, no mail. A view that changes something must not be exempt.
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def answer(request):
    """Shows every field that came, whatever its name."""
    form = request.POST if request.method == "POST" else request.GET
    fields = [(name, value) for name, values in form.lists() for value in values]
    return render(request, "greetings/answer.html", {"fields": fields, "name": form.get("name", "").strip()})


@require_http_methods(["GET", "HEAD", "POST"])
def write(request):
    """A form with a CSRF token: asked again while it has errors, answered once it has none."""
    form = GreetingForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        fields = [(name, ", ".join(v) if isinstance(v, list) else v) for name, v in values.items()]
        return render(request, "greetings/answer.html", {"fields": fields, "name": values["name"]})
    return render(request, "greetings/write.html", {"form": form})
