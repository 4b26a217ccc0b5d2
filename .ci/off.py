#!/usr/bin/env python3
"""Runs recorded suites on two gateways: writes go to one on Postgres, everything that reads, and all
traffic, to one with database=off, which gets the rows of the other as one document (config db_export,
POST /config). So what a gateway without a database shows and serves is compared with what Kong recorded.

    off.py RUNNER PROGRAM OFF_ADMIN [options of the runner; --admin is the gateway on Postgres]

The environment must hold the settings of the gateway on Postgres (KONG_PG_*), for the export.
"""
import importlib.util
import os
import subprocess
import sys
import tempfile

EXPORT_SECONDS_MAX = 60


def load(path):
    spec = importlib.util.spec_from_file_location("run", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    runner, program, off = sys.argv[1:4]
    del sys.argv[1:4]
    writer = sys.argv[sys.argv.index("--admin") + 1]
    run = load(runner)
    call, raw_call, clean = run.call, run.raw_call, run.clean
    stale = True
    cleaning = False

    def hand_over():
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "rows.yml")
            subprocess.run([program, "config", "db_export", file], check=True, timeout=EXPORT_SECONDS_MAX,
                           stderr=subprocess.DEVNULL)
            with open(file, "rb") as rows:
                text = rows.read()
        status, _, body, _ = call(off, "POST", "/config", [("Content-Type", "text/yaml")], text)
        if status != 201:
            sys.exit(f"POST /config: {status} {body.decode()}\n{text.decode()}")

    def divided(base, method, target, headers, body, timeout=15, sni=None):
        nonlocal stale
        if base == writer:
            if cleaning:
                return call(base, method, target, headers, body, timeout, sni)
            if method not in ("GET", "HEAD", "OPTIONS") and "/validate" not in target:
                stale = True
                return call(base, method, target, headers, body, timeout, sni)
            base = off
        if stale:
            hand_over()
            stale = False
        return call(base, method, target, headers, body, timeout, sni)

    def divided_raw(base, payload, timeout):
        nonlocal stale
        if stale and base != writer:
            hand_over()
            stale = False
        return raw_call(base, payload, timeout)

    def cleaned(args):
        nonlocal stale, cleaning
        cleaning, stale = True, True
        clean(args)
        cleaning = False

    run.call, run.raw_call, run.clean = divided, divided_raw, cleaned
    sys.exit(run.main())


if __name__ == "__main__":
    main()
