# Of nixpkgs' lib, what the flake calls, with the same results.
{
  genAttrs = names: f: builtins.listToAttrs (map (name: { inherit name; value = f name; }) names);
  getExe = package: "${package}/bin/${package.meta.mainProgram}";
  makeLibraryPath = packages: builtins.concatStringsSep ":" (map (package: "${package}/lib") packages);
}
