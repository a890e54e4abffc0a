import csv
from datetime import datetime, timedelta

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import StreamingHttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="bench")

customers = [(f"Customer {number}", f"customer.{number}@example.com") for number in range(1000)]
header = ["id", "name", "email", "age", "price", "active", "note", "country", "created", "closed"]
start = datetime(2026, 1, 1)


def rows(count):
    """The rows of shapes.ts, "10 mixed columns"."""
    yield header
    for number in range(count):
        name, email = customers[number % 1000]
        yield [
            number,
            name,
            email,
            number % 90,
            (number % 100_000) * 1.01,
            "true" if number % 2 == 0 else "false",
            'quoted, because "special"' if number % 10 == 0 else "nothing special about it",
            "Österreich",
            (start + timedelta(seconds=number)).isoformat(timespec="milliseconds") + "Z",
            None,
        ]


class Echo:
    """https://docs.djangoproject.com/en/stable/howto/outputting-csv/#streaming-large-csv-files"""

    def write(self, value):
        return value


def export(request):
    writer = csv.writer(Echo(), lineterminator="\n")
    return StreamingHttpResponse(
        (writer.writerow(row) for row in rows(int(request.GET["rows"]))),
        content_type="text/csv; charset=utf-8",
    )


urlpatterns = [path("export", export)]
application = get_wsgi_application()
