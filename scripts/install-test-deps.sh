#!/usr/bin/env bash
# Installs what the tests need beyond a Rust toolchain and a C compiler, each at a fixed version, into .tools/ (and a few
# Debian packages, where something is missing). Run again it does nothing, in well under a second.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
mkdir -p .tools

say() { printf '%s\n' "install-test-deps: $*"; }

# A step is done when its stamp holds the checksum of what it was made from.
done_already() { [[ -f .tools/$1.stamp && $(cat ".tools/$1.stamp") == $(sha256sum "$2" | cut -d' ' -f1) ]]; }
stamp() { sha256sum "$2" | cut -d' ' -f1 >".tools/$1.stamp"; }

# --- Debian packages: programs by the package that brings them, only those that are not there.
declare -A packages=([kcat]=kcat [strace]=strace [javac]=default-jdk-headless [mvn]=maven [cmake]=cmake [make]=make [g++]=g++ [python3]=python3 [npm]=npm)
missing=()
for program in "${!packages[@]}"; do
  command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if ((${#missing[@]})); then
  say "Debian packages: ${missing[*]}"
  command -v apt-get >/dev/null || { say "please install ${missing[*]} (this is not Debian)"; exit 1; }
  sudo=$([[ $(id -u) == 0 ]] || echo sudo)
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >.tools/apt.log
fi

# --- Python packages.
if ! done_already python tests/requirements.txt; then
  say "Python packages into .tools/venv"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { say "Python 3.11 or later is needed"; exit 1; }
  python3 -m venv .tools/venv
  .tools/venv/bin/pip install --quiet --disable-pip-version-check --requirement tests/requirements.txt
  stamp python tests/requirements.txt
fi

# --- Kafka's Java clients, its tools, and Apache Kafka itself.
if ! done_already java tests/java/pom.xml; then
  say "Kafka's jars into .tools/java/lib"
  java_version=$(javac -version 2>&1 | sed 's/^javac \([0-9]*\).*/\1/')
  ((java_version >= 17)) || { say "Java 17 or later is needed, not $java_version"; exit 1; }
  rm -rf .tools/java/lib
  mvn -B -q -f tests/java/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$root/.tools/java/lib"
  stamp java tests/java/pom.xml
fi

# --- Node.js clients, and the Node.js that runs them: a package too, newer than Debian's.
if ! done_already node tests/node/package-lock.json; then
  say "Node packages into .tools/node"
  rm -rf .tools/node
  mkdir -p .tools/node
  cp tests/node/package.json tests/node/package-lock.json .tools/node
  # npm runs on whatever Node.js is there, and would warn that the clients want a newer one.
  npm ci --prefix .tools/node --no-audit --no-fund --loglevel=error >.tools/npm.log
  .tools/node/node_modules/.bin/node --version >/dev/null || { say "no Node.js package for $(uname -sm)"; exit 1; }
  stamp node tests/node/package-lock.json
fi

# --- etcd, three releases of it.
scripts/build-etcd.sh

say "all there"
