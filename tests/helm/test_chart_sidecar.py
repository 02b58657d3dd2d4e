"""trtserve beside an application: one socket, two containers, an order of starting and stopping."""

from tests.helm.chart import SIDECARS, containers, environment, one, pod


def render(helm, application, case="sidecar"):
    return helm.render({"trtserve-sidecar": SIDECARS[case]}, application)


def test_both_containers_have_the_socket_s_folder_at_the_same_place(helm, application):
    for case in SIDECARS:
        found = containers(render(helm, application, case))
        paths = {
            name: each["mountPath"] for name in ("reader", "trtserve")
            for each in found[name]["volumeMounts"] if each["name"] == "trtserve-socket"
        }
        assert paths["reader"] == paths["trtserve"]
        address = environment(found["reader"])["TRTSERVE_ADDRESS"]
        assert address == "unix:" + environment(found["trtserve"])["TRTSERVE_SOCKET"]


def test_they_share_the_socket_by_their_group_and_not_with_everybody(helm, application):
    rendered = render(helm, application)
    found = containers(rendered)
    users = {each["securityContext"]["runAsUser"] for each in found.values()}
    assert len(users) == 2  # trtserve's and the application's
    group = pod(rendered)["securityContext"]["fsGroup"]
    variables = environment(found["trtserve"])
    assert variables["TRTSERVE_SOCKET_MODE"] == "0660"
    assert variables["TRTSERVE_SOCKET_GROUP"] == str(group)


def test_grpc_is_for_this_pod_and_probes_are_for_the_node(helm, application):
    variables = environment(containers(render(helm, application))["trtserve"])
    assert variables["TRTSERVE_HOST"] == "127.0.0.1"
    assert variables["TRTSERVE_HTTP_HOST"] == "0.0.0.0"


def test_a_native_sidecar_is_ready_before_the_application_and_stops_after_it(helm, application):
    found = pod(render(helm, application))
    *before, server = found["initContainers"]
    assert (server["name"], server["restartPolicy"]) == ("trtserve", "Always")
    assert [each["name"] for each in before] == ["trtserve-unpack-models"]
    assert server["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert [each["name"] for each in found["containers"]] == ["reader"]
    own = float(environment(server)["TRTSERVE_DRAIN_TIMEOUT_SECONDS"])
    assert found["terminationGracePeriodSeconds"] > 10 + own  # one after the other


def test_one_of_the_old_kind_stands_beside_it_and_serves_on_while_it_stops(helm, application):
    found = pod(render(helm, application, "sidecar of the old kind"))
    assert [each["name"] for each in found["containers"]] == ["reader", "trtserve"]
    server = found["containers"][1]
    assert "restartPolicy" not in server
    assert environment(server)["TRTSERVE_DRAIN_DELAY_SECONDS"] == "10"
    assert found["terminationGracePeriodSeconds"] > 20


def test_the_library_makes_no_object_of_its_own(helm, application):
    rendered = render(helm, application)
    assert [found["kind"] for found in rendered] == ["Deployment"]
    assert one(rendered, "Deployment")["metadata"]["name"] == "production"


def test_a_sidecar_can_have_a_gpu(helm, application):
    server = containers(render(helm, application, "sidecar with a GPU"))["trtserve"]
    assert server["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert server["image"].endswith("-cuda")
