import re
import subprocess
import sys
from pathlib import Path

from shared.crash import KILLED, POINTS

CODE = Path(__file__).resolve().parents[3]


def test_every_crash_point_in_the_code_is_in_the_list_that_the_fault_matrix_goes_through() -> None:
    files = [file for folder in ("services", "shared", "tools") for file in (CODE / folder).rglob("*.py")]
    found = {name for file in files for name in re.findall(r'crash_point\("([a-z_.]+)"\)', file.read_text())}

    assert found == set(POINTS)


def test_a_process_dies_the_nth_time_it_reaches_the_point() -> None:
    program = "from shared.crash import crash_point\nfor n in range(5):\n print(n, flush=True)\n crash_point('a')"

    ran = subprocess.run(
        [sys.executable, "-c", program], env={"CRASH_AT": "a:3"}, cwd=CODE, capture_output=True, text=True, check=False
    )

    assert (ran.returncode, ran.stdout.split()) == (KILLED, ["0", "1", "2"])


def test_of_several_processes_only_one_dies_at_a_point_named_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "crash"
    file.write_text("a")
    program = "from shared.crash import crash_point\ncrash_point('b')\ncrash_point('a')"

    codes = [
        subprocess.run([sys.executable, "-c", program], env={"CRASH_FILE": str(file)}, cwd=CODE, check=False).returncode
        for _ in range(2)
    ]

    assert codes == [KILLED, 0]
