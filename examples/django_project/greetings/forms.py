"""The form, as Django draws and checks it."""

from django import forms

COLOURS = [("red", "red"), ("green", "green"), ("blue", "blue")]


class GreetingForm(forms.Form):
    name = forms.CharField(max_length=100, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    colour = forms.MultipleChoiceField(
        choices=COLOURS, required=False, widget=forms.CheckboxSelectMultiple, label="Colours you like"
    )
    message = forms.CharField(max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 4}))
