"""The pingmesh agent."""
