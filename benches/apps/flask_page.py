"""A Flask application: the same page as django_page.py."""

from importlib.metadata import version

from flask import Flask, render_template

application = Flask(__name__)

ROWS = [{"number": number, "name": f"Article <{number}>", "price": number * 1.25} for number in range(1, 51)]


@application.get("/")
def page():
    return render_template("page.flask.html", title="Articles", rows=ROWS, version=version("flask"))
