#include "model/config.h"

#include <fmt/format.h>

#include <clocale>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "runtime/file.h"
#include "tests/support.h"

namespace ember {
namespace {

using nlohmann::json;
using testing::shared_dir;
using testing::TemporaryDirectory;

BertConfig parse(const std::string& text, const TemporaryDirectory& directory = {}) {
  std::ofstream(directory / "config.json", std::ios::binary) << text;
  return read_config(directory / "config.json");
}

// What the reader says about this text after the file's name; empty when it takes it.
std::string config_complaint(const std::string& text) {
  const TemporaryDirectory directory;
  return testing::error_about((directory / "config.json: ").string(), [&] { parse(text, directory); });
}

json small_json() {
  return {{"vocab_size", 50},         {"hidden_size", 12},       {"num_hidden_layers", 2},
          {"num_attention_heads", 3}, {"intermediate_size", 20}, {"max_position_embeddings", 16},
          {"type_vocab_size", 2}};
}

std::string complaint_with(const char* key, const json& value) {
  json object = small_json();
  object[key] = value;
  return config_complaint(object.dump());
}

TEST(ReadConfig, TakesTheSizesAloneAndDefaultsTheRest) {
  const BertConfig config = parse(small_json().dump());
  EXPECT_EQ(config.vocabulary, 50);
  EXPECT_EQ(config.hidden, 12);
  EXPECT_EQ(config.layers, 2);
  EXPECT_EQ(config.heads, 3);
  EXPECT_EQ(config.head_dim(), 4);
  EXPECT_EQ(config.ffn, 20);
  EXPECT_EQ(config.positions, 16);
  EXPECT_EQ(config.types, 2);
  EXPECT_EQ(config.layer_norm_eps, 1e-12f);
  EXPECT_EQ(config.hidden_dropout, 0.1f);
  EXPECT_EQ(config.attention_dropout, 0.1f);
  EXPECT_EQ(config.classifier_dropout, 0.1f);
  EXPECT_EQ(config.initializer_range, 0.02f);
  EXPECT_EQ(config.pad_token_id, 0);
  EXPECT_EQ(config.label_count(), 0);
  json object = small_json();
  object.erase("type_vocab_size");
  EXPECT_EQ(parse(object.dump()).types, 2);
}

TEST(ReadConfig, IgnoresKeysThatItDoesNotKnow) {
  json object = small_json();
  object.update({{"cell", json::object()},
                 {"structure", json::array()},
                 {"pre_trained", ""},
                 {"emb_size", 312},
                 {"torch_dtype", "float32"},
                 {"deep", {{"a", {{"b", json::array({1, 2})}}}}}});
  EXPECT_EQ(config_complaint(object.dump()), "");
}

TEST(ReadConfig, EverySizeIsRequiredAndInRange) {
  const json sizes = small_json();
  for (const auto& [key, value] : sizes.items()) {
    json object = sizes;
    object.erase(key);
    const bool has_default = key == "type_vocab_size";  // 2, also for null
    EXPECT_EQ(config_complaint(object.dump()), has_default ? "" : key + " is missing");
    for (const json& wrong : {json("12"), json(12.0), json(nullptr), json(true), json::array({12})}) {
      if (has_default && wrong.is_null()) continue;
      EXPECT_EQ(complaint_with(key.c_str(), wrong), key + " must be an integer, not " + wrong.dump());
    }
    const std::string least = key == "max_position_embeddings" ? ", expected 2 to" : ", expected 1 to";
    for (const json& wrong : {json(0), json(-12), json((1 << 24) + 1), json(~std::uint64_t{0}), json(INT64_MIN)})
      EXPECT_TRUE(complaint_with(key.c_str(), wrong).starts_with(key + " is " + wrong.dump() + least));
  }
  EXPECT_EQ(complaint_with("intermediate_size", 1 << 24), "");
  EXPECT_EQ(complaint_with("num_hidden_layers", 257), "num_hidden_layers is 257, expected 1 to 256");
  EXPECT_EQ(complaint_with("max_position_embeddings", 1), "max_position_embeddings is 1, expected 2 to 16777216");
}

TEST(ReadConfig, HeadsDivideTheHiddenSize) {
  EXPECT_EQ(complaint_with("num_attention_heads", 5), "num_attention_heads is 5, which does not divide hidden_size 12");
  EXPECT_NE(complaint_with("num_attention_heads", 24), "");
}

TEST(ReadConfig, BoundsTheNumberOfWeights) {
  json object = small_json();
  object.update({{"hidden_size", 3 << 20}, {"intermediate_size", 1 << 24}});
  EXPECT_EQ(config_complaint(object.dump()), "the sizes ask for more than 2^40 weights");
}

TEST(ReadConfig, RefusesWhatEmberDoesNotCompute) {
  const std::vector<std::pair<const char*, json>> supported{
      {"model_type", "bert"},        {"hidden_act", "gelu"},
      {"hidden_act", "gelu_python"}, {"position_embedding_type", nullptr},
      {"pad_token_id", nullptr},     {"position_embedding_type", "absolute"},
      {"is_decoder", false},         {"add_cross_attention", false}};
  const std::vector<std::pair<const char*, json>> refused{{"model_type", "roberta"},
                                                          {"hidden_act", "gelu_new"},
                                                          {"hidden_act", "relu"},
                                                          {"position_embedding_type", "relative_key"},
                                                          {"is_decoder", true},
                                                          {"add_cross_attention", true},
                                                          {"transformers_weights", "other.safetensors"},
                                                          {"model_type", 3},
                                                          {"hidden_act", nullptr}};
  for (const auto& [key, value] : supported) EXPECT_EQ(complaint_with(key, value), "");
  for (const auto& [key, value] : refused) {
    const std::string message = complaint_with(key, value);
    EXPECT_TRUE(message.starts_with(std::string(key) + " is " + value.dump() + ", but Ember computes ")) << message;
  }
}

TEST(ReadConfig, NumbersAreFiniteAndInRange) {
  for (const char* key : {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"}) {
    EXPECT_EQ(complaint_with(key, 0), "");
    EXPECT_EQ(complaint_with(key, 0.999), "");
    for (const json& wrong : {json(1), json(1.0), json(0.99999999999), json(-0.1), json(1e300)})
      EXPECT_TRUE(complaint_with(key, wrong).starts_with(std::string(key) + " is ")) << wrong;
    EXPECT_EQ(complaint_with(key, "0.1"), std::string(key) + " must be a number, not \"0.1\"");
  }
  EXPECT_NE(complaint_with("hidden_dropout_prob", nullptr), "");
  for (const json& wrong : {json(0), json(1e-60), json(-1e-12), json(2), json(nullptr)})
    EXPECT_TRUE(complaint_with("layer_norm_eps", wrong).starts_with("layer_norm_eps ")) << wrong;
  EXPECT_EQ(complaint_with("layer_norm_eps", 1e-5), "");
  for (const json& wrong : {json(-0.02), json(1.5)})
    EXPECT_TRUE(complaint_with("initializer_range", wrong).starts_with("initializer_range is ")) << wrong;
  std::string text = small_json().dump();
  text.pop_back();
  for (const char* wrong : {"NaN", "Infinity", "-Infinity", "1e999", "0x1", ".1"})
    EXPECT_TRUE(config_complaint(text + ",\"hidden_dropout_prob\":" + wrong + "}").starts_with("not JSON")) << wrong;
}

TEST(ReadConfig, ClassifierDropoutFallsBackToHiddenDropout) {
  json object = small_json();
  object["hidden_dropout_prob"] = 0.25;
  EXPECT_EQ(parse(object.dump()).classifier_dropout, 0.25f);
  object["classifier_dropout"] = nullptr;
  EXPECT_EQ(parse(object.dump()).classifier_dropout, 0.25f);
  object["classifier_dropout"] = 0.0;
  EXPECT_EQ(parse(object.dump()).classifier_dropout, 0.0f);
}

TEST(ReadConfig, ThePaddingTokenIsInTheVocabulary) {
  EXPECT_EQ(complaint_with("pad_token_id", 49), "");
  EXPECT_EQ(complaint_with("pad_token_id", 50), "pad_token_id is 50, expected 0 to 49");
  EXPECT_EQ(complaint_with("pad_token_id", -1), "pad_token_id is -1, expected 0 to 49");
}

TEST(ReadConfig, LabelsComeInTheOrderOfTheirIds) {
  json object = small_json();
  std::vector<std::string> names;
  for (int id = 0; id < 12; ++id) {
    names.push_back("name " + std::to_string(11 - id));
    object["id2label"][std::to_string(id)] = names.back();
  }
  EXPECT_EQ(parse(object.dump()).labels, names);  // "10" sorts before "2"
  object["num_labels"] = 12;
  EXPECT_EQ(parse(object.dump()).labels, names);
  object["num_labels"] = 11;
  EXPECT_EQ(config_complaint(object.dump()), "num_labels is 11, but id2label names 12 labels");
}

TEST(ReadConfig, ANumberOfLabelsAloneGivesAnonymousOnes) {
  json object = small_json();
  EXPECT_FALSE(parse(object.dump()).multi_label) << "what names no label has two";
  object["num_labels"] = 3;
  EXPECT_EQ(parse(object.dump()).labels, (std::vector<std::string>{"LABEL_0", "LABEL_1", "LABEL_2"}));
  EXPECT_FALSE(parse(object.dump()).multi_label);
  object["num_labels"] = 1;
  EXPECT_TRUE(parse(object.dump()).multi_label) << "the likeliest of one is no answer";
  object["problem_type"] = nullptr;
  EXPECT_TRUE(parse(object.dump()).multi_label);
  for (const json& wrong : {json(0), json(-1), json("3"), json(1e9), json(1 << 20)})
    EXPECT_TRUE(complaint_with("num_labels", wrong).starts_with("num_labels ")) << wrong;
}

TEST(ReadConfig, RefusesLabelsThatAreNotAList) {
  const auto labels = [](const char* text) { return complaint_with("id2label", json::parse(text)); };
  EXPECT_EQ(labels(R"({"0":"a","1":"b"})"), "");
  EXPECT_EQ(labels(R"({"0":"a","2":"b"})"), "id2label has 2 labels, but none with the id 1");
  EXPECT_EQ(labels(R"({"1":"a"})"), "id2label has 1 labels, but none with the id 0");
  EXPECT_EQ(labels(R"({"00":"a"})"), "id2label has 1 labels, but none with the id 0");
  EXPECT_EQ(labels(R"({"0":"a","-1":"b"})"), "id2label has 2 labels, but none with the id 1");
  EXPECT_EQ(labels(R"({"0":"a","x":"b"})"), "id2label has 2 labels, but none with the id 1");
  EXPECT_EQ(labels(R"({"0":"a","1":"a"})"), "id2label names the label \"a\" twice");
  EXPECT_EQ(labels(R"({"0":""})"), "id2label gives id 0 an empty name");
  EXPECT_EQ(labels(R"({"0":3})"), "id2label gives id 0 no name but 3");
  json many;
  for (int id = 0; id <= kMaxLabels; ++id) many[std::to_string(id)] = std::to_string(id);
  EXPECT_EQ(complaint_with("id2label", many), "id2label has 16385 labels, at most 16384 were expected");
  EXPECT_EQ(labels(R"(["a","b"])"), "id2label must be an object, not [\"a\",\"b\"]");
}

TEST(ReadConfig, RefusesMalformedFiles) {
  EXPECT_TRUE(config_complaint("").starts_with("not JSON"));
  EXPECT_TRUE(config_complaint("{").starts_with("not JSON"));
  EXPECT_TRUE(config_complaint("{} {}").starts_with("not JSON"));
  EXPECT_TRUE(config_complaint("{\"a\n\":1}").starts_with("not JSON"));
  EXPECT_TRUE(config_complaint("{\"\xFF\":1}").starts_with("not JSON"));
  EXPECT_TRUE(config_complaint(std::string("{}\0", 3)).starts_with("not JSON"));
  EXPECT_EQ(config_complaint("[]"), "a JSON object was expected, not array");
  EXPECT_EQ(config_complaint("3"), "a JSON object was expected, not number");
  EXPECT_EQ(config_complaint(R"({"vocab_size":1,"vocab_size":2})"), "key \"vocab_size\" stands there twice");
  EXPECT_EQ(config_complaint(R"({"x":[{"a":{"b":1,"\u0062":2}}]})"), "key \"b\" stands there twice");
  EXPECT_EQ(complaint_with("x", json::parse(std::string(63, '[') + std::string(63, ']'))), "");
  EXPECT_EQ(config_complaint("{\"x\":" + std::string(1'000'000, '[')), "nested deeper than 64 levels");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"x\":";
  EXPECT_EQ(config_complaint(objects), "nested deeper than 64 levels");
  EXPECT_TRUE(config_complaint(std::string((3 << 19) + 1, ' ')).find("more than the 1572864 allowed") !=
              std::string::npos);
  EXPECT_THROW(read_config("/nonexistent/config.json"), Error);
  EXPECT_THROW(read_config("/"), Error);
}

TEST(ConfigJson, ReadsBackTheSame) {
  BertConfig config;
  config.vocabulary = 77;
  config.hidden = 26;
  config.heads = 2;
  config.layers = 3;
  config.ffn = 33;
  config.positions = 19;
  config.types = 1;
  config.layer_norm_eps = 3.3e-7f;
  config.hidden_dropout = 0.3f;
  config.attention_dropout = 1.0f / 3.0f;
  config.classifier_dropout = 0;
  config.initializer_range = 0.05f;
  config.pad_token_id = 5;
  config.labels = {"joy", "\u00e9 \"quoted\" \\", "sadness"};
  EXPECT_EQ(parse(config_json(config)), config);
  config.labels.clear();
  EXPECT_EQ(parse(config_json(config)), config);
  EXPECT_EQ(parse(config_json(BertConfig{})), BertConfig{});
}

TEST(ConfigJson, HoldsWhatHuggingFaceReads) {
  BertConfig config;
  config.labels = {"joy", "sadness"};
  const json object = json::parse(config_json(config));
  EXPECT_EQ(object.at("architectures"), json::array({"BertForSequenceClassification"}));
  EXPECT_EQ(object.at("model_type"), "bert");
  EXPECT_EQ(object.at("hidden_act"), "gelu");
  EXPECT_EQ(object.at("problem_type"), "multi_label_classification");
  EXPECT_EQ(object.at("id2label"), (json{{"0", "joy"}, {"1", "sadness"}}));
  EXPECT_EQ(object.at("label2id"), (json{{"joy", 0}, {"sadness", 1}}));
  // Written as people write them, not as the float's digits in double.
  EXPECT_CONTAINS(config_json(config), "\"hidden_dropout_prob\": 0.1,");
  EXPECT_CONTAINS(config_json(config), "\"initializer_range\": 0.02,");
  EXPECT_CONTAINS(config_json(config), "\"layer_norm_eps\": 1e-12,");
}

TEST(ConfigJson, RefusesALabelThatIsNotUtf8) {
  BertConfig config;
  config.labels = {"\xFF"};
  EXPECT_THROW(config_json(config), Error);
}

TEST(ConfigJson, IsTheSameInAProgramWhoseNumbersHaveACommaForThePoint) {
  const auto as_written = [] {
    json object = small_json();
    object["hidden_dropout_prob"] = 0.25, object["layer_norm_eps"] = 1.5e-5;
    return config_json(parse(object.dump()));
  };
  const std::string expected = as_written();
  const testing::TemporaryDirectory locales;  // where one is made, since few machines have any
  const std::string make = fmt::format("localedef -i de_DE -f UTF-8 {}/de_DE.UTF-8", locales.path().string());
  ASSERT_EQ(std::system(make.c_str()), 0) << make;
  setenv("LOCPATH", locales.path().c_str(), 1);
  ASSERT_NE(std::setlocale(LC_NUMERIC, "de_DE.UTF-8"), nullptr);
  ASSERT_EQ(std::localeconv()->decimal_point[0], ',');
  const std::string written = as_written();
  std::setlocale(LC_NUMERIC, "C");
  unsetenv("LOCPATH");
  EXPECT_EQ(written, expected);
}

TEST(ConfigData, ReadsRealFiles) {
  const auto shared = shared_dir() / "reference-run";
  EMBER_NEEDS_DATA(shared);
  const BertConfig reference = read_config(shared / "config.json");
  BertConfig expected;
  expected.labels = anonymous_labels(28);
  EXPECT_EQ(reference, expected);
  const auto checkpoints = shared_dir() / "checkpoints";
  EMBER_NEEDS_DATA(checkpoints);
  EXPECT_EQ(read_config(checkpoints / "coldfire_tiny_bert_config.json").hidden, 32);
  EXPECT_EQ(read_config(checkpoints / "fastnlp_small_bert_v1_config.json").vocabulary, 20);
}

}  // namespace
}  // namespace ember
