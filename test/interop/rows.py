"""Rows of any reader as JSON that compares equal: numbers beyond doubles as text, instants in UTC."""

import datetime
import decimal

# Of 38 digits none may be lost.
EXACT = decimal.Context(prec=76)


def normal(value):
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, decimal.Decimal):
        text = format(value.normalize(EXACT), "f")
        return text if "." in text else normal(int(text))
    if isinstance(value, datetime.datetime):
        # A reader that leaves out the zone means UTC: its session's.
        zoned = value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)
        return zoned.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {key: normal(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [normal(member) for member in value]
    raise TypeError(f"no JSON for {type(value)}")
