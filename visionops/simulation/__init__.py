"""Devices that are simulated on this machine: real agents with real images, each a process, and declared faults."""

__all__ = ["declared_faults", "device_processes", "provisioned_devices"]
