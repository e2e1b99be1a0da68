"""For gunicorn and uwsgi."""
import stock


def application(environ, start_response):
    body = b"%d" % stock.price("bread")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
