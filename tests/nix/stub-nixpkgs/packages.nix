# Packages of names.json, and nothing else: an attribute that it lacks does not evaluate. machine.json, which the tests
# write, says where this machine has each program and library; null where it does not.
{ lib }:
let
  names = builtins.fromJSON (builtins.readFile ./names.json);
  machine = builtins.fromJSON (builtins.readFile ./machine.json);

  build =
    name: script: more:
    derivation (
      {
        inherit name;
        system = "x86_64-linux";
        builder = "/bin/bash";
        args = [
          "-euc"
          # The shell has to be the last to go: mkdir and its like close stderr before they end, which nix takes for the
          # end of the build, and kills them.
          "${script}\nexit 0"
        ];
        PATH = "/usr/bin:/bin";
      }
      // more
    );

  wrapper =
    program:
    let
      path = machine.${program};
      does = if path == null then "echo '${program} is not on this machine' >&2; exit 127" else "exec ${path} \"$@\"";
    in
    ''
      printf '#!/bin/sh\n%s\n' '${builtins.replaceStrings [ "'" ] [ "'\\''" ] does}' > $out/bin/${program}
      chmod +x $out/bin/${program}
    '';

  # As in nixpkgs: programs in bin/, the JDK below lib/openjdk, an interpreter that names itself.
  program =
    name:
    let
      programs = names.programs.${name};
      home = if name == "jdk11_headless" then "mkdir $out/lib; ln -s ${machine.JAVA_HOME} $out/lib/openjdk" else "";
      package = build "stub-${name}" "mkdir -p $out/bin\n${builtins.concatStringsSep "" (map wrapper programs)}${home}" { };
    in
    package
    // {
      home = "${package}/lib/openjdk";
      interpreter = "${package}/bin/${builtins.head programs}";
      meta.mainProgram = builtins.head programs;
    };

  library =
    name:
    build "stub-${name}" (
      "mkdir -p $out/lib\n"
      + builtins.concatStringsSep "" (map (file: "ln -s ${machine.${file}} $out/lib/${file}\n") names.libraries.${name})
    ) { };

  setup = build "stub-stdenv" ''
    mkdir $out
    echo 'for each in $nativeBuildInputs; do PATH=$each/bin:$PATH; done; export PATH' > $out/setup
  '' { };

  builders = {
    mkShell =
      attrs:
      build "nix-shell" "exit 1" (
        removeAttrs attrs [ "packages" ]
        // {
          stdenv = setup;
          nativeBuildInputs = attrs.packages;
          outputs = [ "out" ]; # `nix develop` reads it
        }
      );

    runCommand =
      name: attrs: script:
      build name ". $stdenv/setup\n${script}" (attrs // { stdenv = setup; });

    writeShellApplication =
      {
        name,
        runtimeInputs,
        runtimeEnv,
        text,
      }:
      let
        variables = map (key: "export ${key}='${runtimeEnv.${key}}'") (builtins.attrNames runtimeEnv);
        path = builtins.concatStringsSep ":" (map (each: "${each}/bin") runtimeInputs);
        body = builtins.concatStringsSep "\n" (
          [
            "#!/bin/bash"
            "set -o errexit -o nounset -o pipefail"
          ]
          ++ variables
          ++ [
            "export PATH=\"${path}:$PATH\""
            text
          ]
        );
      in
      build name
        ''
          mkdir -p $out/bin
          printf '%s' "$body" > $out/bin/${name}
          chmod +x $out/bin/${name}
          shellcheck $out/bin/${name}
        ''
        { inherit body; }
      // {
        meta.mainProgram = name;
      };
  };

  flat =
    lib.genAttrs (builtins.filter (name: name != "prometheus.cli") (builtins.attrNames names.programs)) program
    // lib.genAttrs names.builders (name: builders.${name});
in
flat
// {
  inherit lib;
  zlib = library "zlib";
  stdenv.cc.cc.lib = library "stdenv.cc.cc.lib";
  prometheus = flat.prometheus // {
    cli = program "prometheus.cli";
  };
}
