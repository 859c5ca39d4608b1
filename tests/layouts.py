"""Data sets on disk in the layouts in which people have them, made of {split: {class: files}}.

`files` is {name: bytes}; class names are WordNet ids. Each function returns what stands after
--source=.
"""

import csv
import io
import json
import os
import tarfile

import numpy as np
import scipy.io

from tests import odd_images

WORDS = {"n01440764": "tench, Tinca tinca", "n02012849": "crane", "n03126707": "crane"}
CLASSES = tuple(WORDS)
# Not in alphabetical order, as in the development kit.
ILSVRC_IDS = {"n01440764": 3, "n02012849": 1, "n03126707": 2}


def small_set():
    """Three classes, four images each to train on and two to validate; one has odd ones too."""
    train = {
        name: {f"{name}_{i}.JPEG": odd_images.ordinary(10 * label + i) for i in range(4)}
        for label, name in enumerate(CLASSES)
    }
    train[CLASSES[0]] |= odd_images.odd_images()
    val = {
        name: {f"ILSVRC2012_val_{3 * i + label:08d}.JPEG": odd_images.ordinary(50 + 3 * i + label)
               for i in range(2)}
        for label, name in enumerate(CLASSES)
    }  # fmt: skip
    return {"train": train, "val": val}


def file_of(name):
    """An image's file name, without what comes before it."""
    return name.split("/")[-1]


def folder(root, data):
    for split, classes in data.items():
        for name, files in classes.items():
            (root / split / name).mkdir(parents=True)
            for file, content in files.items():
                (root / split / name / file).write_bytes(content)
    (root / "train" / name / ".hidden").write_text("left out")
    return f"folder:{root}"


def flat(classes):
    """[(file name, class, content)] of a split, in order of names."""
    return sorted((file, name, data) for name, files in classes.items()
                  for file, data in files.items())  # fmt: skip


def kaggle(root, data):
    inner = root / "ILSVRC/Data/CLS-LOC"
    folder(inner, {"train": data["train"]})
    (inner / "val").mkdir()
    (inner / "test").mkdir()
    with open(root / "LOC_val_solution.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ImageId", "PredictionString"])
        for name, wnid, content in reversed(flat(data["val"])):
            (inner / "val" / name).write_bytes(content)
            rows.writerow([name.removesuffix(".JPEG"), f"{wnid} 1 2 3 4 {wnid} 5 6 7 8"])
    (inner / "test" / "test_1.JPEG").write_bytes(content)
    lines = (f"{wnid} {words}\n" for wnid, words in WORDS.items())
    (root / "LOC_synset_mapping.txt").write_text("".join(lines))
    return f"folder:{root}"


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def imagenet_tars(root, data):
    inner = [(f"{wnid}.tar", tar_of(files.items())) for wnid, files in data["train"].items()]
    (root / "ILSVRC2012_img_train.tar").write_bytes(tar_of(reversed(inner)))
    validation = flat(data["val"])
    files = [(name, content) for name, _, content in reversed(validation)]
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar_of([("._junk", b"from a Mac"), *files]))
    kit = "ILSVRC2012_devkit_t12"
    answers = "".join(f"{ILSVRC_IDS[wnid]}\n" for _, wnid, _ in validation)
    contents = [
        (f"{kit}/data/meta.mat", meta_mat()),
        (f"{kit}/data/ILSVRC2012_validation_ground_truth.txt", answers.encode()),
    ]
    with tarfile.open(root / f"{kit}.tar.gz", "w:gz") as tar:
        for name, content in contents:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return f"imagenet_tars:{root}"


def meta_mat():
    """Leaves, and one synset above them, as in the development kit."""
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children",
              "wordnet_height", "num_train_images"]  # fmt: skip
    rows = [(i, wnid, WORDS[wnid], "a thing", 0, [], 0, 1300) for wnid, i in ILSVRC_IDS.items()]
    rows.append((4, "n00001740", "entity", "all things", 3, [1, 2, 3], 1, 0))
    synsets = np.array(rows, [(name, object) for name in fields]).reshape(-1, 1)
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": synsets})
    return buffer.getvalue()


def tfds_tfrecord(root, data):
    return _tfds(root, data, "tfrecord")


def tfds_array_record(root, data):
    return _tfds(root, data, "array_record")


def _tfds(root, data, file_format):
    """Written by tensorflow-datasets; to be read with TFDS_DATA_DIR=root."""
    import tensorflow_datasets as tfds

    class MiniImagenet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            classes = sorted({name for split in data.values() for name in split})
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=classes),
                "file_name": tfds.features.Text(),
            }
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
            )

        def _split_generators(self, _):
            names = {"train": "train", "val": "validation"}
            return {names[split]: self._generate_examples(data[split]) for split in data}

        def _generate_examples(self, classes):
            for file, label, content in flat(classes):
                name = f"{label}/{file}"
                yield name, {"image": io.BytesIO(content), "label": label, "file_name": name}

    builder = MiniImagenet(data_dir=os.fspath(root), file_format=file_format)
    builder.download_and_prepare()
    return "tfds:mini_imagenet"


def parquet(root, data):
    import pyarrow
    import pyarrow.parquet

    classes = sorted({name for split in data.values() for name in split})
    features = {
        "image": {"_type": "Image"},
        "label": {"names": [WORDS[c] for c in classes], "_type": "ClassLabel"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", kind), ("label", pyarrow.int64())], metadata=metadata)
    (root / "data").mkdir()
    for split, name in (("train", "train"), ("val", "validation")):
        rows = flat(data[split])
        halves = np.array_split(np.arange(len(rows)), 2)
        for part, chosen in enumerate(halves):
            images = [{"bytes": rows[i][2], "path": rows[i][0]} for i in chosen]
            labels = [classes.index(rows[i][1]) for i in chosen]
            table = pyarrow.table({"image": images, "label": labels}, schema=schema)
            path = root / f"data/{name}-{part:05d}-of-00002.parquet"
            pyarrow.parquet.write_table(table, path, row_group_size=3)
    return f"parquet:{root}"


ALL = {
    layout.__name__: layout
    for layout in (folder, kaggle, imagenet_tars, tfds_tfrecord, tfds_array_record, parquet)
}
