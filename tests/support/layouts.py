"""Labelled images on disk as they are handed around, from {split: {class: {file name: bytes}}}.

Each function of LAYOUTS writes one layout under `root` and returns KIND:WHERE. Splits are called
train, val and test; classes are WordNet ids, and each has a file in train; the test split may have
one class "", without labels. File names must be unique in their split. Sets of
tensorflow-datasets are found if the environment has TFDS_DATA_DIR=root.
"""

import io
import json
import pathlib
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io

from tests.support.odd_images import jpeg, odd_images

FISH, BIRD, DOG = "n01440764", "n01530575", "n02099601"
PUBLISHED_NAMES = {"train": "train", "val": "validation", "test": "test"}
VERSION = "1.0.0"


def small_set():
    """Three classes of unequal size; validation is not in the order of classes."""
    random = iter(range(100))

    def some(prefix, count):
        return {f"{prefix}_{number}.JPEG": jpeg(20, 16, next(random)) for number in range(count)}

    order = (DOG, FISH, FISH, BIRD)
    validation = {name: {} for name in (FISH, BIRD, DOG)}
    for number, name in enumerate(order, start=1):
        validation[name][f"ILSVRC2012_val_{number:08}.JPEG"] = jpeg(16, 20, next(random))
    return {
        "train": {
            DOG: some(DOG, 5),
            FISH: some(FISH, 2) | {f"{FISH}_{name}": data for name, data in odd_images().items()},
            BIRD: some(BIRD, 3),
        },
        "val": validation,
        "test": {"": some("ILSVRC2012_test", 3)},
    }


def folder(root, images):
    for split, classes in images.items():
        for name, files in classes.items():
            _write(root / split / name, files)
    return f"folder:{root}"


def kaggle(root, images):
    place = root / "ILSVRC/Data/CLS-LOC"
    for name, files in images["train"].items():
        _write(place / "train" / name, files)
    for split in images.keys() - {"train"}:
        _write(place / split, flat(images[split]))
    rows = [
        f"{pathlib.Path(file).stem},{name} 1 2 30 40 {name} 5 6 70 80 "
        for name, files in images["val"].items()
        for file in files
    ]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows, ""]))
    words = [f"{name} {words_of(name)}\n" for name in sorted(images["train"])]
    (root / "LOC_synset_mapping.txt").write_text("".join(words))
    return f"folder:{root}"


def imagenet_tars(root, images):
    root.mkdir(parents=True, exist_ok=True)
    class_tars = {f"{name}.tar": tar_of(files) for name, files in images["train"].items()}
    (root / "ILSVRC2012_img_train.tar").write_bytes(tar_of(class_tars))
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar_of(flat(images["val"])))
    if "test" in images:
        files = {f"test/{file}": data for file, data in flat(images["test"]).items()}
        (root / "ILSVRC2012_img_test_v10102019.tar").write_bytes(tar_of(files))
    ids, label_of = ilsvrc_ids(images), {}
    for name, files in images["val"].items():
        label_of |= dict.fromkeys(files, ids[name])
    inside = {
        "data/meta.mat": _meta(images["train"], ids),
        "data/ILSVRC2012_validation_ground_truth.txt": "".join(
            f"{label_of[file]}\n" for file in sorted(label_of) if not file.startswith(".")
        ).encode(),
    }
    inside = {f"ILSVRC2012_devkit_t12/{name}": data for name, data in inside.items()}
    (root / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(tar_of(inside, "w:gz"))
    return f"imagenet_tars:{root}"


def tfds_tfrecord(root, images):
    return tfds_set(root, images, "tfrecord")


def tfds_array_record(root, images):
    return tfds_set(root, images, "array_record")


def parquet(root, images, shards=2, group=2, metadata=True):
    """Files of up to `shards` parts, with row groups of `group` rows."""
    names = sorted(images["train"])
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    facts = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image_type), ("label", pa.int64())])
    (root / "data").mkdir(parents=True)
    for split in images:
        rows = [
            {"image": {"bytes": data, "path": file}, "label": label}
            for file, data, label in labelled(images, split)
        ]
        count = min(shards, len(rows))
        for shard in range(count):
            table = pa.Table.from_pylist(rows[shard::count], schema)
            file = f"{PUBLISHED_NAMES[split]}-{shard:05}-of-{count:05}.parquet"
            table = table.replace_schema_metadata(facts if metadata else None)
            pq.write_table(table, root / "data" / file, row_group_size=group)
    return f"parquet:{root}"


LAYOUTS = {
    "folder": folder,
    "kaggle": kaggle,
    "imagenet_tars": imagenet_tars,
    "tfds_tfrecord": tfds_tfrecord,
    "tfds_array_record": tfds_array_record,
    "parquet": parquet,
}


def tfds_set(root, images, file_format, features=None, supervised=("image", "label")):
    """A set "miniature" as tensorflow-datasets itself writes it, under `root`."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    features = features or {
        "file_name": tfds.features.Text(),
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(names=sorted(images["train"])),
    }
    with registered.skip_registration():  # it has to be found from its files alone

        class Miniature(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version(VERSION)

            def _info(self):
                described = tfds.features.FeaturesDict(features)
                return tfds.core.DatasetInfo(
                    builder=self, features=described, supervised_keys=supervised
                )

            def _split_generators(self, dl_manager):
                return {PUBLISHED_NAMES[split]: self._generate_examples(split) for split in images}

            def _generate_examples(self, split):
                for file, data, label in labelled(images, split):
                    example = {"file_name": file, "image": io.BytesIO(data), "label": label}
                    example["mask"] = io.BytesIO(data)
                    yield file, {name: example[name] for name in features}

    builder = Miniature(data_dir=str(root), file_format=file_format)
    shards = min(2, *(len(flat(classes)) for classes in images.values()))
    config = tfds.download.DownloadConfig(num_shards=shards)
    builder.download_and_prepare(download_config=config)
    return f"tfds:miniature:{VERSION}"


def flat(classes):
    """{file name: bytes} of all classes of a split."""
    return {file: data for files in classes.values() for file, data in files.items()}


def labelled(images, split):
    """(file name, bytes, label) of a split; -1 is the label of the class ""."""
    labels = {name: label for label, name in enumerate(sorted(images["train"]))} | {"": -1}
    for name, files in images[split].items():
        for file, data in files.items():
            yield file, data, labels[name]


def tar_of(files, mode="w"):
    """The bytes of a tar with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def ilsvrc_ids(images):
    """ILSVRC2012_ID of each class, against the order of their names."""
    return {name: number for number, name in enumerate(sorted(images["train"])[::-1], start=1)}


def words_of(name):
    """What the lists of synsets call a class."""
    return f"first name of {name}, second name"


def _meta(training, ids):
    """The devkit's meta.mat: leaves, then one synset above them."""
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children",
              "wordnet_height", "num_train_images")  # fmt: skip
    leaves = sorted(training, key=ids.get)
    rows = [
        (float(ids[name]), name, words_of(name), "a gloss", 0.0, np.zeros(0), 0.0,
         float(sum(not file.startswith(".") for file in training[name])))
        for name in leaves
    ]  # fmt: skip
    above = np.arange(1.0, len(leaves) + 1)
    number = float(len(leaves) + 1)
    rows.append((number, "n00001740", "entity", "all", float(len(leaves)), above, 1.0, 0.0))
    synsets = np.empty((len(rows), 1), [(field, object) for field in fields])
    for row, values in enumerate(rows):
        synsets[row, 0] = values
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": synsets})
    return buffer.getvalue()


def _write(place, files):
    place.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (place / name).write_bytes(data)
