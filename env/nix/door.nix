# What flake.nix offers for one platform. Tools come from nixpkgs; Python packages from env/locks/, by uv, into .venv.
{ pkgs }:
let
  jdk = pkgs.jdk11_headless;
  python = pkgs.python311;
  hooks = ./.;

  tools = [
    jdk
    python
    pkgs.uv
    pkgs.haproxy
    pkgs.prometheus
    pkgs.prometheus.cli # promtool
    pkgs.prometheus-alertmanager
    pkgs.grafana
    pkgs.gnumake
    pkgs.git
    # what the tests run beside these
    pkgs.tmux
    pkgs.shellcheck
    pkgs.binutils
    pkgs.iproute2
  ];

  variables = {
    EMBEDKIT_DOOR = "nix";
    INSTALLER = "uv";
    JAVA_HOME = jdk.home;
    UV_PYTHON = python.interpreter;
    UV_PYTHON_DOWNLOADS = "never";
    # What wheels ask of a machine beside glibc. Not the whole manylinux list: its glibc would break the host's programs.
    WHEEL_LIBRARIES = pkgs.lib.makeLibraryPath [
      pkgs.stdenv.cc.cc.lib
      pkgs.zlib
    ];
  };

  # `torch` is the lock to take; null leaves it to the driver, as `make up` does.
  shell =
    torch:
    pkgs.mkShell (
      variables
      // (if torch == null then { } else { TORCH = torch; })
      // {
        packages = tools;
        shellHook = ". ${hooks}/enter.sh";
      }
    );

  app = name: target: {
    type = "app";
    program = pkgs.lib.getExe (
      pkgs.writeShellApplication {
        name = "embedkit-${name}";
        runtimeInputs = tools;
        runtimeEnv = variables;
        text = ''
          # shellcheck source=/dev/null
          . ${hooks}/enter.sh
          exec make -C "$CHECKOUT" ${target} "$@"
        '';
      }
    );
    meta.description = "make ${target}, in the environment of this flake";
  };
in
rec {
  shells = {
    default = shell null;
    cpu = shell "cpu";
    cuda12 = shell "cuda12";
    cuda13 = shell "cuda13";
  };

  apps = {
    default = apps.up;
    up = app "up" "up";
    down = app "down" "down";
    test = app "test" "test";
  };

  checks = {
    hooks = pkgs.runCommand "embedkit-hooks" { nativeBuildInputs = [ pkgs.shellcheck ]; } ''
      for hook in ${hooks}/*.sh; do
        bash -n "$hook"
        shellcheck --external-sources --source-path=SCRIPTDIR "$hook"
      done
      touch "$out"
    '';
    tools = pkgs.runCommand "embedkit-tools" { nativeBuildInputs = tools; } ''
      bash ${hooks}/tools.sh ${jdk.home} > "$out"
    '';
  };

  formatter = pkgs.nixfmt-tree;
}
