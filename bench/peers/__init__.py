"""What the mesh is measured against: a usual REST service without a gateway, and gRPC's own floor."""
