//! Compiles the `.proto` files with protox: no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let topics = ["common", "agent", "connectivity", "identity", "incident", "node"]
        .map(|topic| format!("casefile/v1/{topic}.proto"));
    for topic in &topics {
        println!("cargo::rerun-if-changed={topic}");
    }
    let descriptors = protox::compile(&topics, ["."])?;
    // Every method as it is called on the wire: what is in front of them must know them all.
    let methods = descriptors.file.iter().flat_map(|file| {
        file.service.iter().flat_map(|service| {
            let methods = service.method.iter();
            methods.map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name()))
        })
    });
    let methods: Vec<_> = methods.collect();
    let path = std::path::Path::new(&std::env::var("OUT_DIR")?).join("methods.rs");
    std::fs::write(path, format!("&{methods:?}"))?;
    // Without the feature `grpc` the stubs are compiled away, and with them every trace of tonic.
    tonic_prost_build::configure()
        .client_mod_attribute("casefile.v1", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute("casefile.v1", "#[cfg(feature = \"grpc\")]")
        .codec_path("crate::codec::Codec")
        .bytes(".casefile.v1.UploadChunk.deflated")
        .bytes(".casefile.v1.FrameBatch.records")
        .bytes(".casefile.v1.DownloadArchiveResponse.data")
        .compile_fds(descriptors)?;
    Ok(())
}
