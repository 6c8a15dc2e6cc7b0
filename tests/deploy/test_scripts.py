"""The scripts of the images, run: with a made-up /usr/local/Ascend, and a pip without a network."""

import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.files import ROOT

DEPLOY = ROOT / "deploy"
SCRIPTS = ("check-base.sh", "install-aclruntime.sh", "install-torch.sh", "with-cann.sh")
PATH = os.environ["PATH"]
SHOW = 'printf "%s\\n" "$LD_LIBRARY_PATH" "$PYTHONPATH" "$ASCEND_PROCESS_LOG_PATH" "$SOURCED"'


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in an environment of its own."""
    return subprocess.run(
        command, env={"PATH": PATH, **environment}, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )


def cann(root: Path, *places: str) -> Path:
    """A tree like /usr/local/Ascend: each set_env.sh puts its own libraries first, and CANN's packages on PYTHONPATH."""
    for place in places:
        home = root / place / "latest"
        home.mkdir(parents=True)
        (root / place / "set_env.sh").write_text(
            f"export ASCEND_TOOLKIT_HOME={home}\n"
            f"export LD_LIBRARY_PATH={home}/lib64:{home}/devlib:$LD_LIBRARY_PATH\n"
            f"export PYTHONPATH={home}/python/site-packages:$PYTHONPATH\n"
            f'export SOURCED="$SOURCED {place}"\n'
        )
    return root


def driver(root: Path) -> Path:
    for folder in ("common", "driver"):
        (root / "driver" / "lib64" / folder).mkdir(parents=True)
    return root


def shown(root: Path, mode: str, **environment: str) -> list[str]:
    """LD_LIBRARY_PATH, PYTHONPATH, the log folder and what was sourced, as the command sees them."""
    done = run(DEPLOY / "with-cann.sh", mode, "sh", "-c", SHOW, ASCEND_ROOT=str(root), **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_parse_and_may_be_executed(name: str) -> None:
    assert run("bash", "-n", DEPLOY / name).stderr == ""
    assert os.access(DEPLOY / name, os.X_OK)


def test_the_command_in_the_container_parses_and_passes_its_arguments_on() -> None:
    assert run("sh", "-n", DEPLOY / "reid").stderr == ""
    assert (DEPLOY / "reid").read_text().endswith('exec /opt/reid/with-cann.sh serve /opt/reid/bin/reid "$@"\n')


def test_both_places_of_set_env_are_sourced(tmp_path: Path) -> None:
    root = cann(tmp_path, "ascend-toolkit", "cann")
    assert shown(root, "serve")[3] == " ascend-toolkit cann"


def test_the_driver_is_found_in_three_folders_behind_the_toolkit(tmp_path: Path) -> None:
    root = driver(cann(tmp_path, "ascend-toolkit"))
    libraries = shown(root, "serve")[0].split(":")
    lib64 = f"{root}/driver/lib64"
    assert libraries == [f"{root}/ascend-toolkit/latest/lib64", lib64, f"{lib64}/common", f"{lib64}/driver"]


def test_a_server_never_sees_the_driver_s_stub_nor_the_working_directory(tmp_path: Path) -> None:
    """The stub gives ACL error 100039; an empty entry, as CANN images have at the end, stands for the working directory."""
    root = cann(tmp_path, "ascend-toolkit")
    given = "/usr/lib/stub:/opt/devlib/x86_64::/opt/kept:"
    libraries = shown(root, "serve", LD_LIBRARY_PATH=given)[0].split(":")
    assert libraries == [f"{root}/ascend-toolkit/latest/lib64", "/opt/kept"]


def test_a_server_does_not_see_cann_s_python_packages_and_atc_does(tmp_path: Path) -> None:
    root = cann(tmp_path, "ascend-toolkit")
    assert shown(root, "serve")[1] == ""
    assert shown(root, "build")[1].startswith(f"{root}/ascend-toolkit/latest/python/site-packages")


def test_atc_gets_the_stub_only_where_there_is_no_driver(tmp_path: Path) -> None:
    stub = f"{tmp_path}/ascend-toolkit/latest/{platform.machine()}-linux/devlib"
    root = cann(tmp_path, "ascend-toolkit")
    assert shown(root, "build")[0].split(":")[-1] == stub
    assert stub not in shown(driver(root), "build")[0]


def test_without_cann_the_environment_stays_as_it_is(tmp_path: Path) -> None:
    assert shown(tmp_path, "serve", LD_LIBRARY_PATH="/opt/kept") == ["/opt/kept", "", "", ""]
    assert shown(tmp_path, "build") == ["", "", "", ""]


def test_logs_of_cann_go_where_a_read_only_container_may_write(tmp_path: Path) -> None:
    root = cann(tmp_path, "cann")
    assert shown(root, "serve")[2].startswith("/tmp/")
    assert shown(root, "serve", ASCEND_PROCESS_LOG_PATH="/logs")[2] == "/logs"


def test_the_command_takes_the_script_s_place(tmp_path: Path) -> None:
    """Signals and the exit status are the command's own: Docker stops the server, not a shell around it."""
    done = run(DEPLOY / "with-cann.sh", "serve", "sh", "-c", "exit 7", ASCEND_ROOT=str(tmp_path))
    assert done.returncode == 7
    assert (DEPLOY / "with-cann.sh").read_text().endswith('\nexec "${command[@]}"\n')


def test_set_env_is_not_taken_to_be_called_with_the_command_s_arguments(tmp_path: Path) -> None:
    """A sourced script sees its caller's arguments; Huawei has set_env.sh files that read options of theirs."""
    root = cann(tmp_path, "cann")
    with (root / "cann" / "set_env.sh").open("a") as file:
        file.write('export SOURCED="$#"\n')
    assert shown(root, "serve")[3] == "0"


def base(tmp_path: Path, device: str, version: str | None = None) -> subprocess.CompletedProcess[str]:
    """check-base.sh on a machine with a python3 that says it is of that version."""
    if version:
        fake = tmp_path / "bin" / "python3"
        fake.parent.mkdir()
        fake.write_text(f'#!/bin/sh\ncase "$2" in *print*) echo {version} ;; *) exit 1 ;; esac\n')
        fake.chmod(0o755)
    path = f"{tmp_path}/bin:{Path(sys.executable).parent}:{PATH}"
    return run(DEPLOY / "check-base.sh", device, ASCEND_ROOT=str(tmp_path), PATH=path)


def test_a_base_that_fits_is_taken_without_a_word(tmp_path: Path) -> None:
    for device in ("cpu", "ascend"):
        done = base(cann(tmp_path, "cann") if device == "ascend" else tmp_path, device)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("device", "version", "sentence"),
    [
        ("npu", None, "error: DEVICE is 'npu'; it is cpu or ascend"),
        ("ascend", None, "error: DEVICE is ascend, but the base image has no CANN"),
        ("ascend", "3.10", "error: the base image has Python 3.10; the service needs 3.11 or newer"),
    ],
)
def test_a_base_that_does_not_fit_is_refused_in_a_sentence(
    tmp_path: Path, device: str, version: str | None, sentence: str
) -> None:
    done = base(tmp_path, device, version)
    assert done.returncode == 1
    assert done.stderr.startswith(sentence)


@pytest.fixture
def fake_pip(tmp_path: Path) -> Path:
    """A Python whose pip installs into tmp_path/site."""
    fake = tmp_path / "python"
    fake.write_text(
        "#!/bin/sh\n"
        f'if [ "$2" = pip ]; then shift 3; exec {sys.executable} -m pip install --target {tmp_path}/site "$@"; fi\n'
        f'exec {sys.executable} "$@"\n'
    )
    fake.chmod(0o755)
    return fake


def wheel(folder: Path, name: str, tag: str) -> None:
    """The smallest wheel: one module."""
    package, version = name.split("-")
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{tag}.whl", "w") as archive:
        info = f"{name}.dist-info"
        archive.writestr(f"{package}.py", "made = 'for a test'\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")


def install_aclruntime(tmp_path: Path, python: Path, device: str = "ascend") -> subprocess.CompletedProcess[str]:
    folders = [tmp_path / "wheels", tmp_path / "source"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    return run(DEPLOY / "install-aclruntime.sh", device, *folders, python)


def test_an_ascend_image_without_aclruntime_is_refused_in_a_sentence(tmp_path: Path, fake_pip: Path) -> None:
    done = install_aclruntime(tmp_path, fake_pip)
    assert done.returncode == 1
    this = f"cp{sys.version_info.major}{sys.version_info.minor} on {platform.machine()}"
    assert done.stderr == (
        f"error: DEVICE is ascend, but there is no aclruntime: put its wheel ({this}) into wheels/, or give the folder with "
        "its setup.py by --build-context aclruntime-src=FOLDER; wheels/README.md says where either comes from\n"
    )


def test_a_wheel_that_fits_is_installed(tmp_path: Path, fake_pip: Path) -> None:
    wheel(tmp_path / "wheels", "aclruntime-0.0.2", "py3-none-any")
    done = install_aclruntime(tmp_path, fake_pip)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "aclruntime.py").is_file()


def test_a_wheel_for_another_python_is_refused_by_name(tmp_path: Path, fake_pip: Path) -> None:
    wheel(tmp_path / "wheels", "aclruntime-0.0.2", "cp37-cp37m-linux_aarch64")
    done = install_aclruntime(tmp_path, fake_pip)
    assert done.returncode == 1
    assert "error: no aclruntime wheel in wheels/ fits this image" in done.stderr
    assert done.stderr.endswith("aclruntime-0.0.2-cp37-cp37m-linux_aarch64.whl\n")


def compiler(tmp_path: Path, place: str, makes_wheels: bool = True) -> Callable[[], subprocess.CompletedProcess[str]]:
    """A source folder, a CANN whose set_env.sh is untidy, a g++, and a Python whose environments make a wheel or fail."""
    source, made = tmp_path / "source" / place, tmp_path / "made"
    source.mkdir(parents=True)
    (source / "setup.py").touch()
    root = cann(tmp_path, "ascend-toolkit")
    with (root / "ascend-toolkit" / "set_env.sh").open("a") as file:
        file.write('echo "$NOBODY_SET_THIS" >/dev/null\ngrep -q nothing /dev/null\n[ -n "$NOBODY_SET_THIS" ] && true\n')
    wheel(made, "aclruntime-0.0.2", "py3-none-any")
    for name in ("g++", "python", "inner"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).touch(0o755)
    (tmp_path / "bin" / "inner").write_text(
        f"""#!/bin/sh
        [ "$3" = wheel ] || exit 0                           # -m pip install the tools
        {"exit 3" if not makes_wheels else ""}
        while [ "$1" != --wheel-dir ]; do shift; done
        [ -f "$3/setup.py" ] && [ -z "$PYTHONPATH" ] && mkdir "$2" && cp {made}/*.whl "$2"
        """
    )
    (tmp_path / "bin" / "python").write_text(
        f"""#!/bin/sh
        case "$2" in
          venv) mkdir -p "$3/bin" && cp {tmp_path}/bin/inner "$3/bin/python" ;;
          pip) shift 3; exec {sys.executable} -m pip install --target {tmp_path}/site "$@" ;;
        esac
        """
    )
    command: list[str | Path] = [DEPLOY / "install-aclruntime.sh", "ascend", tmp_path, tmp_path / "source"]
    command.append(tmp_path / "bin" / "python")
    environment = {"PATH": f"{tmp_path}/bin:{PATH}", "ASCEND_ROOT": str(root), "TMPDIR": str(tmp_path)}
    return lambda: run(*command, **environment)


@pytest.mark.parametrize(
    "place", [".", "ais-bench_workload/tool/ais_bench/backend", "ait/components/benchmark/backend"]
)
def test_a_source_is_compiled_whatever_set_env_s_own_commands_answer(tmp_path: Path, place: str) -> None:
    """Found at the folder itself or inside the repository; set_env.sh is written for a shell that ends for nothing."""
    done = compiler(tmp_path, place)()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "aclruntime.py").is_file()


def test_a_source_that_does_not_compile_ends_the_build_with_a_sentence(tmp_path: Path) -> None:
    done = compiler(tmp_path, ".", makes_wheels=False)()
    assert done.returncode == 1
    assert done.stderr == "error: aclruntime could not be compiled from the source folder; what failed stands above\n"
    assert not (tmp_path / "site").exists()


def test_an_image_for_the_cpu_takes_no_notice_of_aclruntime(tmp_path: Path, fake_pip: Path) -> None:
    wheel(tmp_path / "wheels", "aclruntime-0.0.2", "py3-none-any")
    assert install_aclruntime(tmp_path, fake_pip, device="cpu").returncode == 0
    assert not (tmp_path / "site").exists()


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A Python that only says what it was told."""
    fake = tmp_path / "told"
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    return fake


def test_torch_is_not_installed_by_itself(tmp_path: Path, told: Path) -> None:
    done = run(DEPLOY / "install-torch.sh", tmp_path, "", REID_PYTHON=str(told))
    assert done.returncode == 0
    assert done.stdout.startswith("no PyTorch in this image")


def test_torch_comes_from_the_index_that_was_named_in_the_project_s_version(tmp_path: Path, told: Path) -> None:
    done = run(DEPLOY / "install-torch.sh", tmp_path, "http://127.0.0.1:9/cpu", REID_PYTHON=str(told))
    words = done.stdout.split()
    assert "--no-deps" in words  # what it requires is locked, and no more may come along
    assert words[words.index("--index-url") + 1] == "http://127.0.0.1:9/cpu"
    assert f'"{words[-1]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_a_torch_wheel_comes_before_an_index(tmp_path: Path, told: Path) -> None:
    (tmp_path / "torch-2.13.0-cp311-cp311-linux_aarch64.whl").touch()
    done = run(DEPLOY / "install-torch.sh", tmp_path, "http://127.0.0.1:9/cpu", REID_PYTHON=str(told))
    assert "--no-index" in done.stdout
    assert "--index-url" not in done.stdout
