"""Events as Moesif's own Python library understands them.

Usage: official_models.py < EVENTS, a JSON array. Reads each event into the library's models, and
says what a model lost or could not read. Ends with status 1 if there was anything.
"""

import datetime
import json
import sys

from moesifapi.models import EventModel


def faults(event):
    """What is wrong with one event, in words."""
    model = EventModel.from_dictionary(event)
    for side, fields in (
        ("request", ["time", "uri", "verb", "headers"]),
        ("response", ["time", "status", "headers"]),
    ):
        part = getattr(model, side)
        if part is None:
            yield f"no {side}"
            continue
        for field in fields:
            if getattr(part, field) is None:
                yield f"{side}.{field} is required and missing"
        if not isinstance(part.time, datetime.datetime):
            yield f"{side}.time is no time: {part.time!r}"
        elif part.time.utcoffset() != datetime.timedelta(0):
            yield f"{side}.time is not in UTC: {part.time}"
        for field in event[side]:
            if not hasattr(part, field):
                yield f"{side}.{field} is not known"
        if part.transfer_encoding not in (None, "json", "base64"):
            yield f"{side}.transfer_encoding is {part.transfer_encoding!r}"
    if not isinstance(model.response.status, int):
        yield f"response.status is {model.response.status!r}"
    for field in event:
        if not hasattr(model, field):
            yield f"{field} is not known"
        elif field not in ("request", "response") and getattr(model, field) != event[field]:
            yield f"{field} came out as {getattr(model, field)!r}"
    if len(model.transaction_id) != 36:
        yield f"transaction_id is {model.transaction_id!r}"
    # What the library would send must be JSON again.
    json.dumps(model.to_dictionary(), default=str)


def main():
    events = json.load(sys.stdin)
    found = 0
    for event in events:
        for fault in faults(event):
            found += 1
            print(f"{event['request']['uri']}: {fault}")
    print(f"{len(events)} events, {found} faults")
    return 1 if found or not events else 0


sys.exit(main())
