"""Where a request goes whose model was swapped while it waited. Pure."""

from dataclasses import replace

from trtserve.errors import InvalidRequest, ModelNotFound, Unavailable
from trtserve.frontend.template import Template
from trtserve.model.catalog import Catalog, Version
from trtserve.model.route import route
from trtserve.model.spec import VersionSpec


def follow(template: Template, catalog: Catalog) -> Template:
    """The template for what the model is now, for a request that was copied for what it was.

    The version that the request was given may be gone: then it goes to the one that its words
    for the version mean now. Raises Unavailable where that takes or gives other tensors.
    """
    spec = template.spec
    version = catalog.models.get(spec.model, {}).get(spec.version)
    if version is None:
        version = _meant(template, catalog)
    now = version.spec
    if now is None or _signature(now) != _signature(spec):
        raise _changed(template)
    shapes = [plan.shape for plan in sorted(template.inputs, key=lambda plan: plan.position)]
    try:
        found = route(version, shapes)
    except InvalidRequest as error:
        raise _changed(template) from error
    levels = now.queue.priority_levels
    priority = template.priority if template.priority <= levels or not levels else 0
    return replace(template, version=version, route=found, priority=priority, heads={})


def _signature(spec: VersionSpec) -> tuple[list[tuple[str, str]], ...]:
    """What the bytes that were copied mean, and which outputs come. Whether the shapes still fit
    is for the route to say: another variant may have changed what the version takes in all."""
    return tuple(
        [(tensor.name, tensor.datatype) for tensor in tensors]
        for tensors in (spec.inputs, spec.outputs)
    )


def _meant(template: Template, catalog: Catalog) -> Version:
    spec = template.spec
    try:
        return catalog.resolve(spec.model, template.asked)
    except (ModelNotFound, Unavailable) as error:
        raise Unavailable(
            f"model '{spec.model}' version {spec.version} is not served any more"
        ) from error


def _changed(template: Template) -> Unavailable:
    spec = template.spec
    return Unavailable(
        f"model '{spec.model}' version {spec.version} changed while the request waited, and "
        "takes other tensors now; look at its metadata and try again"
    )
