"""`pulumi preview --policy-pack infra/policy`: serves the rules to the engine. Returns when the engine ends."""

import sys
from functools import partial
from pathlib import Path

from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from infra.policy.rules import RULES, Resource, Rule


def _validate(rule: Rule, asked, report) -> None:  # type: ignore[no-untyped-def]
    said = rule.problem(Resource(asked.resource_type, asked.props, bool(asked.opts.protect)))
    if said is not None:
        report(said)


PolicyPack(
    name="elastic-cluster",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[
        ResourceValidationPolicy(name=rule.name, description=rule.description, validate=partial(_validate, rule))
        for rule in RULES
    ],
)
