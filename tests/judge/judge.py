"""Reads the sandbox org through simple-salesforce, and prints as one line of JSON what that library makes of it.

    judge.py read|expire|refuse FILE

FILE holds the credentials as JSON. The way to the org is the environment's: HTTPS_PROXY, REQUESTS_CA_BUNDLE. Nothing
here helps the library along: what it does not understand of the sandbox's answers ends the script.
"""

import json
import sys

import requests
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceError

with open(sys.argv[2], encoding="utf-8") as file:
    OWN = json.load(file)

USER = {"username": OWN["username"], "password": OWN["password"]}
APP = {"consumer_key": OWN["consumer_key"], "consumer_secret": OWN["consumer_secret"]}
SOAP = {**USER, "security_token": OWN["security_token"]}


def logins(org):
    """The arguments of each login, for the org that one of them led to."""
    return {
        "soap": SOAP,
        # A session id begins with the organization's.
        "organization": {**USER, "organizationId": org.session_id.split("!")[0]},
        "password": {**APP, "username": OWN["username"], "password": OWN["password"] + OWN["security_token"]},
        "jwt": {"username": OWN["username"], "consumer_key": OWN["consumer_key"], "privatekey": OWN["private_key"]},
        "client credentials": {**APP, "domain": org.sf_instance.removesuffix(".salesforce.com")},
    }


def read():
    bodies = []
    session = requests.Session()
    session.hooks["response"].append(lambda answer, **_: bodies.append((answer.url, answer.text)))
    org = Salesforce(**SOAP, session=session)
    listed = [entry["name"] for entry in org.describe()["sobjects"]]
    described = {name: getattr(org, name).describe() for name in listed}
    limits = org.restful("limits")
    names = ", ".join(f"'{name}'" for name in listed[:5])
    entities = f"SELECT QualifiedApiName FROM EntityDefinition WHERE QualifiedApiName IN ({names})"
    fields = (
        "SELECT QualifiedApiName, EntityDefinition.QualifiedApiName FROM FieldDefinition"
        f" WHERE EntityDefinition.QualifiedApiName IN ({names})"
    )
    entities = org.toolingexecute("query/", params={"q": entities})
    fields = org.restful("tooling/query", params={"q": fields})
    data = [body for url, body in bodies if "/services/data/" in url]
    return {
        "version": org.sf_version,
        "logins": {name: login(arguments) for name, arguments in logins(org).items()},
        "session": login({"session_id": org.session_id, "instance_url": f"https://{org.sf_instance}"}),
        "listed": listed,
        "described": {name: [[field["name"], field["type"]] for field in described[name]["fields"]] for name in listed},
        # FieldDefinition has a row for an address, none for its parts.
        "whole": [
            [name, field["name"]]
            for name in listed[:5]
            for field in described[name]["fields"]
            if field["compoundFieldName"] in (None, field["name"])
        ],
        "limit": limits["DailyApiRequests"]["Max"],
        "usage": list(org.api_usage["api-usage"]),
        "entities": [row["QualifiedApiName"] for row in entities["records"]],
        "fields": [
            [row["EntityDefinition"]["QualifiedApiName"], row["QualifiedApiName"]] for row in fields["records"]
        ],
        "answers": len(data),
        "indented": sum("\n  \"" in body for body in data),
    }


def expire():
    """The org's sessions die under the third call after a login."""
    org = Salesforce(**SOAP)
    first = org.session_id
    other = Salesforce(session_id=first, instance=org.sf_instance)
    other.describe()
    other.limits()
    expired = refusal(other.limits)
    limits = org.limits()
    return {"expired": expired, "renewed": org.session_id != first, "limit": limits["DailyApiRequests"]["Max"]}


def refuse():
    wrong = {
        "soap": {"password": "another-password"},
        "organization": {"organizationId": "00D000000000001"},
        "password": {"password": "another-password"},
        "jwt": {"consumer_key": "another-key"},
        "client credentials": {"consumer_secret": "another-secret"},
    }
    org = Salesforce(**SOAP)
    right = logins(org)
    refused = {name: refusal(lambda: Salesforce(**{**right[name], **change})) for name, change in wrong.items()}
    refused["unknown object"] = refusal(org.Nothing__c.describe)
    refused["no session"] = refusal(Salesforce(session_id="00D!dead", instance=org.sf_instance).describe)
    refused["bad query"] = refusal(lambda: org.restful("tooling/query", params={"q": "SELECT FROM"}))
    return refused


def login(arguments):
    org = Salesforce(**arguments)
    return {"kind": org.auth_type, "host": org.sf_instance, "objects": len(org.describe()["sobjects"])}


def refusal(call):
    """What the library makes of a refusal: its exception and the code in it."""
    try:
        call()
    except SalesforceAuthenticationFailed as refused:
        return [type(refused).__name__, refused.code]
    except SalesforceError as refused:
        return [type(refused).__name__, refused.content[0]["errorCode"]]
    raise SystemExit("the org accepted what it should refuse")


print(json.dumps({"read": read, "expire": expire, "refuse": refuse}[sys.argv[1]]()))
