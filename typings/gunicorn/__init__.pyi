# The part of gunicorn that flask_stream/ uses; the package ships no types.
