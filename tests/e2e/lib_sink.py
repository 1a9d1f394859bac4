"""Postfix's smtp-sink: takes any number of mails and throws them away; for volume."""

import os
import shutil
import subprocess

from lib_process import Process, free_port, port_answers, release_port, wait_for


def _program():
    return shutil.which("smtp-sink", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/lib/postfix/sbin")


class SmtpSink:
    def __init__(self, folder, *options):
        self.folder = folder
        self.port = free_port()
        program = _program()
        assert program, "smtp-sink is missing: scripts/install-packages.sh test"
        argv = [program]
        if os.geteuid() == 0:
            argv += ["-u", "nobody"]
        argv += [*options, "-m", "512", "127.0.0.1:%d" % self.port, "512"]
        self._log = open(os.path.join(folder, "smtp-sink.log"), "ab")
        self.process = Process(argv, cwd="/", stdout=self._log, stderr=subprocess.STDOUT)
        wait_for(self._answers, 10, "smtp-sink")

    def _answers(self):
        assert self.process.running, "smtp-sink ended, see " + self._log.name
        return port_answers(self.port)

    def destroy(self):
        self.process.kill()
        self._log.close()
        release_port(self.port)
