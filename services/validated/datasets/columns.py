"""The roster as datasets: the workers and their two companions, as files and tables are documented to have them."""

from __future__ import annotations

import json
from typing import Final

from validated.datasets.dataset import Column, ColumnType, Dataset, Opposites

CERTIFICATIONS_MAX: Final = 200

# A yes in such a column means that somebody may not be sent.
_NOT_ACTIVE: Final = Opposites(
    stems=("inact", "deact", "nonact", "terminat", "delet", "disab", "archiv", "blocked", "suspen", "fired", "dismiss",
           "resign", "retire", "departed", "banned", "blacklist", "barred", "separat", "ineligib", "unavail",
           "unemploy", "inakt", "ausgesch", "gesperrt", "gek\u00fcndigt", "gel\u00f6scht", "desact",
           "desat", "inativ", "cessat"),
    phrases=frozenset(("onleave", "leaveofabsence", "donot", "dontuse", "norehire", "laidoff", "lefton", "leftat",
                       "leftcompany", "notactive", "notemployed", "noteligible", "nolonger")),
    perhaps=frozenset(("left", "leave", "leaver", "gone", "void", "voided", "former", "closed", "removed", "expired",
                       "ended", "exit", "exited", "quit", "not", "no", "non", "dnr", "dnu", "tombstone", "hidden")),
)  # fmt: skip
WORKERS: Final = Dataset(
    "workers",
    (
        Column(
            "worker_id",
            ColumnType.ID,
            required=True,
            synonyms=("id", "workerno", "workernumber", "employeeid", "employeeno", "employeenumber", "empid", "empno",
                      "personid", "personnelnumber", "staffid", "badge", "badgeid"),
        ),
        Column(
            "name",
            ColumnType.NAME,
            required=True,
            synonyms=("fullname", "workername", "employeename", "displayname", "personname", "empname"),
        ),
        Column("role", ColumnType.TEXT, synonyms=("job", "jobtitle", "position", "title", "occupation", "jobrole"),
               absent="nobody has a role"),
        Column("city", ColumnType.TEXT, synonyms=("town", "homecity", "cityname"), absent="nobody has a city"),
        Column("state", ColumnType.TEXT, synonyms=("province", "region", "homestate", "statecode"),
               absent="nobody has a state"),  # two letters
        Column(
            "active",
            ColumnType.FLAG,
            synonyms=("isactive", "activeflag", "status", "workerstatus", "employeestatus", "employmentstatus",
                      "empstatus", "accountstatus", "inactive", "isinactive", "enabled", "isenabled", "disabled",
                      "isdisabled", "deleted", "isdeleted", "deletedat", "archived", "isarchived", "terminated",
                      "isterminated", "terminationdate", "terminatedat", "enddate", "deactivated", "deactivatedat",
                      "suspended", "issuspended", "available", "isavailable", "employed", "isemployed", "current",
                      "iscurrent", "currentlyemployed", "stillactive", "aktiv", "actif", "activo", "ativo", "attivo",
                      "actief", "valid", "isvalid", "blocked", "isblocked", "left", "leftat", "leavedate", "exitdate",
                      "validto", "validuntil", "validtill", "validthru", "validthrough", "validtodate", "effectiveto",
                      "effectiveuntil", "effectiveend", "effectiveenddate", "activeto", "activeuntil", "employedto",
                      "employeduntil", "employmentend", "employmentenddate", "contractend", "contractenddate",
                      "lastday", "lastdayofwork", "lastworkingday", "expired", "isexpired"),
            absent="everybody counts as active",
            is_favourable=True,
            opposites=_NOT_ACTIVE,
        ),  # see ACTIVE
        Column(
            "certifications",
            ColumnType.LABELS,
            synonyms=("certs", "certificates", "certification", "certificate", "licenses", "licences",
                      "qualifications"),
            absent="nobody is certified",
        ),
        Column("latitude", ColumnType.LATITUDE, synonyms=("lat", "homelat", "gpslat"), absent="nobody's home is known"),
        Column("longitude", ColumnType.LONGITUDE, synonyms=("lon", "lng", "long", "homelon", "gpslon"),
               absent="nobody's home is known"),
        Column("phone", ColumnType.TEXT, synonyms=("phonenumber", "mobile", "mobilephone", "cell", "cellphone",
                                                   "telephone", "tel"), absent="nobody's phone is known"),
    ),
    key=("worker_id",),
    is_unique=True,
)  # fmt: skip
ASSIGNMENTS: Final = Dataset(
    "assignments",
    (
        Column("worker_id", ColumnType.ID, required=True),
        Column("shift_start", ColumnType.INSTANT, required=True),
        Column("shift_end", ColumnType.INSTANT, required=True),
    ),
    key=("worker_id",),
    is_unique=False,
    can_be_mapped=False,
)
DO_NOT_SEND: Final = Dataset(
    "do_not_send",
    (Column("client_id", ColumnType.ID, required=True), Column("worker_id", ColumnType.ID, required=True)),
    key=("client_id", "worker_id"),
    is_unique=False,
    can_be_mapped=False,
)
WORKER_COLUMNS: Final = tuple(column.name for column in WORKERS.columns)

ACTIVE: Final = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "active"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "inactive"), False),
}


def read_active(text: str | None) -> bool | None:
    """Whether a worker is active, by the column's text; None where the text says neither, as an empty one does."""
    return ACTIVE.get((text or "").strip().lower())


def read_certifications(held: object) -> tuple[str, ...] | None:
    """Return the certifications in a column: a list, its JSON text, or a text separated by ";". None: it is none of
    them."""
    parts: object = held or ()
    if isinstance(parts, str):
        try:
            parts = json.loads(parts) if parts.startswith("[") else parts.split(";")
        except ValueError:
            return None
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        return None
    return tuple(part.strip() for part in parts if part.strip())
