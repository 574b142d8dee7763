#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a host brings along, as lines of `key value`. Reads only. Environment: OG_INTERFACE, OG_PCI_ADDRESS, OG_PATHS.
set -u

option() {
    config=/boot/config-$(uname -r)
    if [ -r "$config" ]; then
        grep -m 1 "^$1=" "$config" || echo "$1=n"
    elif [ -r /proc/config.gz ]; then
        zcat /proc/config.gz | grep -m 1 "^$1=" || echo "$1=n"
    else
        echo "$1=?"
    fi
}

# A device's NUMA node and the processors of it. A machine of one node may say -1: then nothing.
numa_node() {
    node=$(cat "$2/numa_node" 2>/dev/null)
    [ -r "/sys/devices/system/node/node$node/cpulist" ] || return
    echo "$1 $node $(cat "/sys/devices/system/node/node$node/cpulist")"
}

echo "kernel $(uname -r)"
echo "machine $(uname -m)"
echo "processors $(getconf _NPROCESSORS_CONF)"
echo "container $(systemd-detect-virt --container 2>/dev/null || true)"
(. /etc/os-release && echo "system $ID ${VERSION_ID-}")
for name in CONFIG_IPV6_SEG6_LWTUNNEL CONFIG_NF_TABLES CONFIG_XDP_SOCKETS CONFIG_NET_CLS_BPF CONFIG_BPF_JIT; do
    echo "option $(option $name)"
done
[ -e /proc/sys/net/ipv6/conf/all/seg6_enabled ] && echo "seg6 yes"
[ -r /sys/kernel/btf/vmlinux ] && echo "btf yes"
echo "hugepages $(cat /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages 2>/dev/null)"
echo "memory_kb $(awk '$1 == "MemTotal:" {print $2}' /proc/meminfo)"

if [ -n "$OG_INTERFACE" ] && [ -e "/sys/class/net/$OG_INTERFACE" ]; then
    echo "interface_mtu $(cat "/sys/class/net/$OG_INTERFACE/mtu")"
    driver=$(readlink -f "/sys/class/net/$OG_INTERFACE/device/driver")
    echo "interface_driver ${driver##*/}"
    [ -d "/sys/class/net/$OG_INTERFACE/bonding" ] && echo "interface_master bond"
    [ -d "/sys/class/net/$OG_INTERFACE/bridge" ] && echo "interface_master bridge"
    numa_node interface_node "/sys/class/net/$OG_INTERFACE/device"
fi
if [ -n "$OG_PCI_ADDRESS" ] && [ -e "/sys/bus/pci/devices/$OG_PCI_ADDRESS" ]; then
    echo "pci_class $(cat "/sys/bus/pci/devices/$OG_PCI_ADDRESS/class")"
    driver=$(readlink -f "/sys/bus/pci/devices/$OG_PCI_ADDRESS/driver")
    echo "pci_driver ${driver##*/}"
    for path in "/sys/bus/pci/devices/$OG_PCI_ADDRESS"/net/*; do
        [ -e "$path" ] || continue
        echo "pci_interface ${path##*/}"
        [ -e "$path/master" ] && master=$(readlink -f "$path/master") && echo "pci_master ${master##*/}"
    done
    ls "/sys/bus/pci/devices/$OG_PCI_ADDRESS/iommu_group" >/dev/null 2>&1 && echo "pci_iommu yes"
    for path in "/sys/bus/pci/devices/$OG_PCI_ADDRESS"/iommu_group/devices/*; do
        if [ "${path##*/}" = "$OG_PCI_ADDRESS" ] || [ ! -e "$path/driver" ]; then continue; fi
        driver=$(readlink -f "$path/driver")
        echo "pci_group ${path##*/} ${driver##*/}"
    done
    numa_node pci_node "/sys/bus/pci/devices/$OG_PCI_ADDRESS"
fi
{ [ -d /sys/module/vfio_pci ] || modprobe --dry-run --quiet vfio-pci; } 2>/dev/null && echo "vfio yes"

for path in $OG_PATHS; do
    at=$path
    while [ ! -e "$at" ]; do at=$(dirname "$at"); done
    echo "free_mb $path $(df -Pm "$at" | awk 'NR == 2 {print $4}')"
done
echo "time $(timedatectl show --property NTPSynchronized --value 2>/dev/null)"
ss --no-header --listening --tcp --numeric --processes |
    awk '{name = $6; sub(/^users:\(\("/, "", name); sub(/".*/, "", name); port = $4; sub(/.*:/, "", port); print "listener", port, name}'
