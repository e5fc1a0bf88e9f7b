# shellcheck shell=bash
# Where the NVIDIA driver's libraries are. They belong to the kernel module that runs, so nixpkgs cannot have them.

NIXOS_DRIVER=/run/opengl-driver/lib

# Prints ":<folder>" to append to LD_LIBRARY_PATH, or nothing where there is no driver. On NixOS that is the system's
# own folder. Elsewhere $1 gets links to the driver's few libraries: the host's whole library folder would bring its
# glibc along, and nothing of nixpkgs runs with that.
driver_libraries() {
    local folder=$1 name path
    if [ -e "$NIXOS_DRIVER/libcuda.so.1" ]; then
        echo ":$NIXOS_DRIVER"
        return
    fi
    # A link that is right stays: a worker of another shell may start at this moment.
    while read -r name path; do
        mkdir -p "$folder"
        [ "$folder/$name" -ef "$path" ] || ln -sf "$path" "$folder/$name"
    done < <(host_driver_libraries)
    for path in "$folder"/*; do
        [ -e "$path" ] || rm -f "$path" # of an earlier driver
    done
    if [ -e "$folder/libcuda.so.1" ]; then
        echo ":$folder"
    fi
}

# Name and path of each, as the host's own loader finds them. With a driver of two word sizes the 64-bit ones count.
host_driver_libraries() {
    host_ldconfig | sed -nE \
        's/^\s*(lib(cuda|cudadebugger|nvidia-(ml|ptxjitcompiler|nvvm|gpucomp))\.so\.[0-9.]+) \(.*x86-64.*\) => (.*)$/\1 \4/p'
}

# By its path: nixpkgs' own ldconfig may be on PATH, and knows nothing of the host.
host_ldconfig() {
    local ldconfig
    for ldconfig in /sbin/ldconfig /usr/sbin/ldconfig; do
        if [ -x "$ldconfig" ]; then
            "$ldconfig" -p
            return
        fi
    done
}
