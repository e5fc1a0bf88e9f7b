{
  description = "the names of nixpkgs that embedkit's flake asks for, as wrappers of this machine's own programs";

  outputs = _: {
    lib = import ./lib.nix;
    legacyPackages.x86_64-linux = import ./packages.nix { lib = import ./lib.nix; };
  };
}
