"""Real repositories to ask: Git below a folder, Subversion behind a server with passwords."""

import contextlib
import os
import shutil
import socket
import subprocess
import time

import pytest

from platformops.on_ray.cluster import free_port

SVN_USER, SVN_PASSWORD = "ada", "lovelace"
_AS = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main")


def needs(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} is not installed")


def git(folder, *arguments):
    done = subprocess.run(["git", *_AS, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def git_repository(folder):
    """A repository with one commit on `main`, one ignored name, and a remote with a password in its URL."""
    needs("git")
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q")
    (folder / "app.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("ignored\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    git(folder, "remote", "add", "origin", "https://ada:secret@git.example/team/app.git")
    return folder


class Subversion:
    """A repository with trunk, branches and tags, served to those who know the password."""

    def __init__(self, root):
        needs("svn", "svnadmin", "svnserve", "svnversion")
        self.root, self.config = root, root / "config"
        self.repository = root / "repository"
        root.mkdir(parents=True)
        subprocess.run(["svnadmin", "create", str(self.repository)], check=True)
        (self.repository / "conf" / "svnserve.conf").write_text(
            "[general]\nanon-access = none\nauth-access = write\npassword-db = passwd\n"
        )
        (self.repository / "conf" / "passwd").write_text(f"[users]\n{SVN_USER} = {SVN_PASSWORD}\n")

    @contextlib.contextmanager
    def served(self):
        port = free_port()
        command = ["svnserve", "-d", "--foreground", "--listen-host", "127.0.0.1", "--listen-port", str(port)]
        server = subprocess.Popen([*command, "-r", str(self.repository)])
        self.url = f"svn://127.0.0.1:{port}"
        try:
            _wait_for(port, server)
            folders = [f"{self.url}/{name}" for name in ("trunk", "branches", "tags")]
            self.svn(self.root, "mkdir", "-m", "layout", *folders)
            yield self
        finally:
            server.terminate()
            server.wait()

    def svn(self, folder, *arguments, user=SVN_USER, password=SVN_PASSWORD):
        options = ["--non-interactive", "--no-auth-cache", "--config-dir", str(self.config)]
        options += ["--username", user, "--password", password] if user else []
        command = ["svn", *arguments, *options]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def working_copy(self, name="tree", path="trunk"):
        self.svn(self.root, "checkout", f"{self.url}/{path}", name)
        return self.root / name

    def commit(self, tree, text, name="app.py"):
        is_new = not (tree / name).exists()
        (tree / name).write_text(text)
        if is_new:
            self.svn(tree, "add", name)
        self.svn(tree, "commit", "-m", text)


def _wait_for(port, server):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert server.poll() is None, "svnserve ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        os.sched_yield()
    raise AssertionError("svnserve does not answer")
