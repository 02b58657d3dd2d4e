"""Services, the network policy, budgets and who finds which pods."""

import pytest

from tests.helm.chart import CASES, containers, one, pod


@pytest.fixture(params=CASES)
def objects(request, helm):
    return helm.render(CASES[request.param])


def test_everything_that_selects_pods_finds_ours(objects):
    template = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [one(objects, "Deployment")["spec"]["selector"]["matchLabels"]]
    for found in objects:
        if found["kind"] == "Service":
            selectors.append(found["spec"]["selector"])
        if found["kind"] == "PodDisruptionBudget":
            selectors.append(found["spec"]["selector"]["matchLabels"])
        if found["kind"] == "NetworkPolicy":
            selectors.append(found["spec"]["podSelector"]["matchLabels"])
    for constraint in pod(objects).get("topologySpreadConstraints", ()):
        selectors.append(constraint["labelSelector"]["matchLabels"])
    for selector in selectors:
        assert selector.items() <= template.items()
    for found in objects:  # and nobody takes the pod of `helm test` for a server
        if found["kind"] == "Pod":
            assert not selectors[0].items() <= found["metadata"]["labels"].items()


def test_services_lead_to_ports_that_there_are(objects):
    server = containers(objects)["trtserve"]
    ports = {each["name"]: each["containerPort"] for each in server["ports"]}
    for found in objects:
        if found["kind"] == "Service":
            for port in found["spec"]["ports"]:
                assert port["targetPort"] in ports
                if found["spec"].get("clusterIP") == "None":  # clients meet the pod's own port
                    assert port["port"] == ports[port["targetPort"]]


def test_the_headless_service_is_for_balancing_in_the_client(helm):
    rendered = helm.render({})
    service = one(rendered, "Service", "production-trtserve-headless")
    assert service["spec"]["clusterIP"] == "None"
    # Without this, a pod that is going or not yet ready would be called.
    assert "publishNotReadyAddresses" not in service["spec"]
    variables = {each["name"]: each["value"] for each in containers(rendered)["trtserve"]["env"]}
    assert float(variables["TRTSERVE_GRPC_MAX_CONNECTION_AGE_SECONDS"]) > 0
    assert float(variables["TRTSERVE_GRPC_MAX_CONNECTION_AGE_GRACE_SECONDS"]) > 0


def test_a_pod_that_is_not_ready_is_scraped_too(helm):
    rendered = helm.render(CASES["monitoring"])
    service = one(rendered, "Service", "production-trtserve-metrics")
    assert service["spec"]["publishNotReadyAddresses"] is True
    monitor = one(rendered, "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    chosen = [
        found["metadata"]["name"] for found in rendered
        if found["kind"] == "Service" and wanted <= found["metadata"]["labels"].items()
    ]
    assert chosen == ["production-trtserve-metrics"]  # one only: else pods are scraped twice
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_the_policy_lets_in_clients_to_grpc_and_prometheus_to_http(helm):
    spec = one(helm.render({}), "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == []  # it never calls anybody
    calls, scrapes = spec["ingress"]
    assert [port["port"] for port in calls["ports"]] == ["trtserve-grpc"]
    assert calls["from"] == [{"podSelector": {}}]
    assert [port["port"] for port in scrapes["ports"]] == ["trtserve-http"]
    assert {"podSelector": {}} not in scrapes["from"]


def test_an_empty_list_of_clients_is_nobody(helm):
    """In a NetworkPolicy a rule with an empty `from` would mean everybody."""
    spec = one(helm.render(CASES["closed"]), "NetworkPolicy")["spec"]
    for rule in spec["ingress"]:
        assert rule["from"]
        assert [port["port"] for port in rule["ports"]] == ["trtserve-http"]


def test_the_object_store_can_be_reached(helm):
    spec = one(helm.render(CASES["bucket"]), "NetworkPolicy")["spec"]
    assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == {53, 443}
    spec = one(helm.render(CASES["bucket by aws"]), "NetworkPolicy")["spec"]
    assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == {53, 443, 4318}


def test_a_budget_and_a_rollout_that_let_something_happen(helm):
    rendered = helm.render({})
    assert one(rendered, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    rollout = one(rendered, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rollout == {"maxSurge": 1, "maxUnavailable": 0}


def test_what_is_turned_off_is_not_there(helm):
    rendered = helm.render(CASES["bare"])
    assert {found["kind"] for found in rendered} == {"Deployment", "Service", "Pod"}
    assert pod(rendered)["serviceAccountName"] == "default"
    assert "lifecycle" not in containers(rendered)["trtserve"]


def test_two_releases_in_one_namespace_do_not_meet(helm):
    first, second = helm.render({}, release="one"), helm.render({}, release="two")
    assert not {
        (found["kind"], found["metadata"]["name"]) for found in first
    } & {(found["kind"], found["metadata"]["name"]) for found in second}
    selector = one(first, "Deployment")["spec"]["selector"]["matchLabels"]
    labels = one(second, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert not selector.items() <= labels.items()


def test_long_names_stay_short_enough(helm):
    rendered = helm.render(CASES["monitoring"], release="a" * 53)
    for found in rendered:
        assert len(found["metadata"]["name"]) <= 63
