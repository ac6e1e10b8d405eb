"""AdventureWorks in SQLite: the CSV files, or a small extract of them, as tables with SQL Server's types, and the two views that are imported.

The views are what a DBA would make for the connector (`GRANT SELECT` on them, nothing else).
"""

from __future__ import annotations

import contextlib
import csv
import sqlite3
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "adventureworks"
# A few employees up to the top of the company, their earlier departments, and people with several addresses or none.
EXTRACT = Path(__file__).parent / "adventureworks_extract"

_TABLES = {
    "employee": (
        "businessentityid int, nationalidnumber nvarchar(15), loginid nvarchar(256), jobtitle nvarchar(50), "
        "birthdate date, maritalstatus nchar(1), gender nchar(1), hiredate date, salariedflag bit, "
        "vacationhours smallint, sickleavehours smallint, currentflag bit, rowguid uniqueidentifier, "
        "modifieddate datetime, organizationnode nvarchar(100)"
    ),
    "department": "departmentid smallint, name nvarchar(50), groupname nvarchar(50), modifieddate datetime",
    "employeedepartmenthistory": (
        "businessentityid int, departmentid smallint, shiftid tinyint, startdate date, enddate date, modifieddate datetime"
    ),
    "emailaddress": (
        "businessentityid int, emailaddressid int, emailaddress nvarchar(50), rowguid uniqueidentifier, modifieddate datetime"
    ),
    "personphone": "businessentityid int, phonenumber nvarchar(25), phonenumbertypeid int, modifieddate datetime",
    "phonenumbertype": "phonenumbertypeid int, name nvarchar(50), modifieddate datetime",
    "businessentityaddress": (
        "businessentityid int, addressid int, addresstypeid int, rowguid uniqueidentifier, modifieddate datetime"
    ),
    "address": (
        "addressid int, addressline1 nvarchar(60), addressline2 nvarchar(60), city nvarchar(30), stateprovinceid int, "
        "postalcode nvarchar(15), spatiallocation nvarchar(200), rowguid uniqueidentifier, modifieddate datetime"
    ),
    "stateprovince": (
        "stateprovinceid int, stateprovincecode nchar(3), countryregioncode nvarchar(3), isonlystateprovinceflag bit, "
        "name nvarchar(50), territoryid int, rowguid uniqueidentifier, modifieddate datetime"
    ),
}

_VIEWS = """
CREATE INDEX employee_node ON employee(organizationnode);
CREATE INDEX email_person ON emailaddress(businessentityid);
CREATE INDEX phone_person ON personphone(businessentityid);
CREATE INDEX address_person ON businessentityaddress(businessentityid);
CREATE INDEX address_id ON address(addressid);
CREATE VIEW v_employees AS
SELECT e.businessentityid, e.loginid, m.emailaddress, p.phonenumber, t.name AS phonetype, e.jobtitle,
    d.name AS department, boss.businessentityid AS managerid, e.hiredate, e.currentflag, e.rowguid, e.nationalidnumber
FROM employee AS e
JOIN emailaddress AS m ON m.businessentityid = e.businessentityid
LEFT JOIN personphone AS p ON p.businessentityid = e.businessentityid
LEFT JOIN phonenumbertype AS t ON t.phonenumbertypeid = p.phonenumbertypeid
LEFT JOIN employeedepartmenthistory AS h ON h.businessentityid = e.businessentityid AND h.enddate IS NULL
LEFT JOIN department AS d ON d.departmentid = h.departmentid
LEFT JOIN employee AS boss ON e.organizationnode <> '/'
    AND boss.organizationnode = rtrim(rtrim(e.organizationnode, '/'), '0123456789.');
CREATE VIEW v_people AS
SELECT m.businessentityid, m.emailaddress, p.phonenumber, t.name AS phonetype, a.addressline1, a.addressline2,
    a.city, s.stateprovincecode, a.postalcode, s.countryregioncode
FROM emailaddress AS m
LEFT JOIN personphone AS p ON p.businessentityid = m.businessentityid
LEFT JOIN phonenumbertype AS t ON t.phonenumbertypeid = p.phonenumbertypeid
LEFT JOIN businessentityaddress AS b ON b.addressid = (
    SELECT MIN(addressid) FROM businessentityaddress WHERE businessentityid = m.businessentityid)
    AND b.businessentityid = m.businessentityid
LEFT JOIN address AS a ON a.addressid = b.addressid
LEFT JOIN stateprovince AS s ON s.stateprovinceid = a.stateprovinceid;
CREATE VIEW v_phones AS
SELECT p.businessentityid, p.phonenumber, t.name AS phonetype
FROM personphone AS p JOIN phonenumbertype AS t ON t.phonenumbertypeid = p.phonenumbertypeid;
CREATE VIEW v_addresses AS
SELECT b.businessentityid, b.addressid, b.addresstypeid, a.addressline1, a.addressline2, a.city, s.stateprovincecode,
    a.postalcode, s.countryregioncode
FROM businessentityaddress AS b
JOIN emailaddress AS m ON m.businessentityid = b.businessentityid
JOIN address AS a ON a.addressid = b.addressid
JOIN stateprovince AS s ON s.stateprovinceid = a.stateprovinceid;
"""

CUSTOM_URN = "urn:okta:adventure_works_1:1.0:user:custom"
_PHONES = [
    {
        "value": "phonenumber",
        "type": {"column": "phonetype", "values": {"Cell": "mobile", "Home": "home", "Work": "work"}},
    }
]

EMPLOYEES: dict[str, Any] = {
    "id": "businessentityid",
    "externalId": "nationalidnumber",
    "userName": {"column": "emailaddress", "case": "lower"},
    "displayName": "loginid",
    "title": "jobtitle",
    "active": "currentflag",
    "emails": [{"value": "emailaddress", "type": "work", "primary": True}],
    "phoneNumbers": _PHONES,
    "enterprise": {"department": "department", "manager": "managerid"},
    CUSTOM_URN: {
        "hireDate": {"column": "hiredate", "type": "dateTime"},
        "rowGuid": {"column": "rowguid", "type": "uniqueidentifier"},
    },
}

PEOPLE: dict[str, Any] = {
    "id": "businessentityid",
    "userName": "emailaddress",
    "active": {"constant": True},
    "emails": [{"value": "emailaddress", "type": "work", "primary": True}],
    "phoneNumbers": _PHONES,
    "addresses": [
        {
            "type": "home",
            "primary": True,
            "streetAddress": "{addressline1} {addressline2}",
            "locality": "city",
            "region": "stateprovincecode",
            "postalCode": "postalcode",
            "country": "countryregioncode",
        }
    ],
}

# Departments as groups, current ones only; the reporting line as managers; any number of phones and addresses.
DEPARTMENTS: dict[str, Any] = {
    "table": "department",
    "id": "departmentid",
    "displayName": "name",
    "description": "groupname",
    "members": {
        "query": "SELECT businessentityid, departmentid FROM employeedepartmenthistory WHERE enddate IS NULL",
        "group": "departmentid",
        "user": "businessentityid",
    },
}
STAFF: dict[str, Any] = {
    "id": "businessentityid",
    "userName": {"column": "emailaddress", "case": "lower"},
    "displayName": "loginid",
    "active": "currentflag",
    "enterprise": {"manager": {"user": "managerid"}},
}
CONTACTS: dict[str, Any] = {
    "id": "businessentityid",
    "userName": "emailaddress",
    "phoneNumbers": [{"table": "v_phones", "user": "businessentityid", "order": "phonenumber", **_PHONES[0]}],
    "addresses": [
        {
            "table": "v_addresses",
            "user": "businessentityid",
            "order": "addressid",
            "type": {"column": "addresstypeid", "values": {"2": "home", "5": "other"}},
            "streetAddress": "{addressline1} {addressline2}",
            "locality": "city",
            "region": "stateprovincecode",
            "postalCode": "postalcode",
            "country": "countryregioncode",
        }
    ],
}


def read_csv(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def load(folder: Path, path: Path) -> Path:
    """Make the SQLite file of the CSV files in a folder."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        for name, columns in _TABLES.items():
            database.execute(f"CREATE TABLE {name} ({columns})")
            rows = read_csv(folder, name)
            marks = ", ".join("?" * len(rows[0]))
            database.executemany(
                f"INSERT INTO {name} VALUES ({marks})", [[_cell(cell) for cell in row.values()] for row in rows]
            )
        database.executescript(_VIEWS)
        database.commit()
    return path


def _cell(text: str) -> Any:
    return {"": None, "true": 1, "false": 0}.get(text, text)
