"""Events of a service that exists only here, made without generated code."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from weft.options.v1 import options_pb2


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="weft/demo/v1/events.proto",
        package="weft.demo.v1",
        syntax="proto3",
        dependency=["weft/options/v1/options.proto"],
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for name in ("Happened", "Counted", "Plain"):
        message = file.message_type.add(name=name)
        for number, field in enumerate(("thing", "person", "note"), 1):
            message.field.add(name=field, number=number, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
        message.field.add(name="units", number=4, type=kinds.TYPE_INT64, label=kinds.LABEL_OPTIONAL)
        if name != "Plain":
            event = message.options.Extensions[options_pb2.event]
            event.key, event.subject = "thing", "person"
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    made = [pool.FindMessageTypeByName(f"weft.demo.v1.{message.name}") for message in file.message_type]
    return {descriptor.name: message_factory.GetMessageClass(descriptor) for descriptor in made}


_made = _messages()
Happened, Counted, Plain = _made["Happened"], _made["Counted"], _made["Plain"]
